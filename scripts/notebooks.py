"""Keep the stored notebooks in shape: navigation bars, a fresh run, stated minutes, a check.

  nav [NN]      write the cell that installs as the first code cell, and as the last cell the bar
                (previous, contents, next)
  run [NN]      execute notebooks top to bottom in fresh kernels and store them with their outputs
  minutes [NN]  state how long notebooks take where that has changed, and bring the map of 00 and
                the README's table up to date
  check [NN]    say what is out of shape; exit 1 if anything is

NN are the two digits of a notebook's name; without any, all notebooks are meant. A run starts a
score server or adopts the one that is up, and leaves it up: end it with `make stop`.

What a run stores is for a reader who has no machine at hand. So a progress bar becomes its last
line as text, the paths of this machine become `~` or paths inside the repository, and a notebook
is not stored at all if a cell failed that is not tagged raises-exception, or if an output still
holds this machine's name or one of its paths.
"""

from __future__ import annotations

import argparse
import copy
import getpass
import hashlib
import html
import json
import os
import platform
import re
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

from notebook_rules import (
    METADATA,
    NOTEBOOKS,
    REPOSITORY,
    RUN_SECONDS,
    WIDGET_VIEW,
    Notebook,
    check,
    install_parts,
    navigation_bar,
    notebook_paths,
    nothing_tells_whose_machine_it_was,
    output_texts,
    run_seconds,
    tags,
    with_map_rows,
    with_stated_minutes,
)

CELL_TIMEOUT = 1200  # seconds; the longest cell launches a server on a slow disk
BAR_WIDTH = 20
# Names that say nothing about a machine or a person, and that an output may well contain.
COMMON_NAMES = {"localhost", "root", "user", "jovyan", "runner", "server", "model", "vllm"}


class NotStored(Exception):
    """A notebook was not stored; the text says which, and why."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["nav", "run", "minutes", "check"])
    parser.add_argument("numbers", nargs="*", metavar="NN", help="which notebooks (default: all)")
    options = parser.parse_args(arguments)
    paths = [
        path for path in notebook_paths() if not options.numbers or path.name[:2] in options.numbers
    ]
    if missing := set(options.numbers) - {path.name[:2] for path in paths}:
        parser.error(f"there is no notebook {', '.join(sorted(missing))} in {NOTEBOOKS.name}/")

    if options.action == "nav":
        for path in paths:
            if write_frame(path):
                print(f"{path.name}: brought up to date")
        return 0
    if options.action == "minutes":
        for name in [*filter(None, map(state_minutes, paths)), *write_maps()]:
            print(f"{name}: brought up to date")
        return 0
    problems = []
    if options.action == "run":
        for path in paths:
            write_frame(path)
            print(f"{path.name}: running", flush=True)
            began = time.monotonic()
            try:
                run(path)
            except NotStored as failure:
                problems.append(f"{path.name}: not stored. {failure}")
            else:
                took = round(time.monotonic() - began)
                keep_run_seconds(path, took)
                print(f"{path.name}: stored after {took} s", flush=True)
    problems += [problem for path in paths for problem in check(path)]
    print("\n".join(problems) or f"{len(paths)} notebooks are in shape")
    return bool(problems)


# What stands in every notebook.


def write_frame(path: Path) -> bool:
    """Write the cell that installs and the navigation bar, and tell whether anything changed."""
    old = Notebook.read(path).node
    cells = copy.deepcopy([cell for cell in old.cells if "navigation" not in tags(cell)])
    head, tail = install_parts(path.name[:2])
    if not any("install" in tags(cell) for cell in cells):
        # After the title and the badges.
        place = 1 + sum("badges" in tags(cell) for cell in cells)
        cells.insert(place, frame_cell("code", "install", head + tail))
    for cell in cells:
        # What `make badges` has put into the middle stays.
        whole = cell.source.startswith(head) and cell.source.endswith(tail)
        if "install" in tags(cell) and not whole:
            cell.source = head + tail
    bar = navigation_bar(path, notebook_paths(path.parent))
    cells.append(frame_cell("markdown", "navigation", bar))
    if cells == old.cells:
        return False
    old.cells = cells
    write(old, path)
    return True


def frame_cell(kind: str, tag: str, source: str) -> NotebookNode:
    """Return a cell whose tag is its id too."""
    cell = {"cell_type": kind, "id": tag, "metadata": {"tags": [tag]}, "source": source}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    return nbformat.from_dict(cell)


def write(node: NotebookNode, path: Path) -> None:
    """Store a notebook in one normal form, so that a diff shows only what changed."""
    give_ids(node, path.stem)
    node.nbformat, node.nbformat_minor = 4, 5
    nbformat.validate(node)
    draft = path.with_suffix(".draft")
    draft.write_text(nbformat.v4.writes(node) + "\n", "utf-8")
    draft.replace(path)


def state_minutes(path: Path) -> str:
    """Write into the opening of a notebook how long it takes; return its name if that changed."""
    notebook = Notebook.read(path)
    opening = with_stated_minutes(notebook)
    if opening == notebook.node.cells[0].source:
        return ""
    notebook.node.cells[0].source = opening
    write(notebook.node, path)
    return path.name


def write_maps(readme: Path = REPOSITORY / "README.md", folder: Path = NOTEBOOKS) -> list[str]:
    """Bring the README's table and the map of notebook 00 up to date; return what changed."""
    paths = notebook_paths(folder)
    changed = []
    old = readme.read_text("utf-8")
    new = with_map_rows(old, f"{folder.name}/", titled=False, paths=paths)
    if new != old:
        readme.write_text(new, "utf-8")
        changed.append(readme.name)
    start = Notebook.read(paths[0])
    before = copy.deepcopy(start.node.cells)
    for cell in start.prose:
        cell.source = with_map_rows(cell.source, "", titled=True, paths=paths)
    if start.node.cells != before:
        write(start.node, paths[0])
        changed.append(paths[0].name)
    return changed


def keep_run_seconds(path: Path, took: int) -> None:
    """Note how long a notebook of the collection ran, from which the stated minutes are made."""
    if path.parent != NOTEBOOKS:
        return
    there = {path.stem for path in notebook_paths()}
    kept = {name: value for name, value in run_seconds().items() if name in there}
    draft = RUN_SECONDS.with_suffix(".draft")
    draft.write_text(json.dumps(kept | {path.stem: took}, indent=2, sort_keys=True) + "\n", "utf-8")
    draft.replace(RUN_SECONDS)


def give_ids(node: NotebookNode, stem: str) -> None:
    """Give each cell without an id one that is the same on every machine."""
    taken = {cell.id for cell in node.cells if "id" in cell}
    for place, cell in enumerate(node.cells):
        if "id" not in cell:
            seed = f"{stem} {place} {cell.source}"
            cell.id = hashlib.sha256(seed.encode()).hexdigest()[:8]
            while cell.id in taken:
                cell.id = hashlib.sha256(cell.id.encode()).hexdigest()[:8]
            taken.add(cell.id)


# A fresh run.


def run(path: Path) -> None:
    """Execute a notebook in a fresh kernel and store it with its outputs.

    Errors: `NotStored` if a cell failed that may not, or an output is not fit to be stored; the
    file is then as it was.
    """
    node = Notebook.read(path).node
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("execution", None)
    states = execute(node, path.parent)
    make_widgets_plain(node, states)
    make_paths_plain(node)
    node.metadata = nbformat.from_dict(METADATA)
    leaks = [*nothing_tells_whose_machine_it_was(Notebook(path, node)), *names_shown(node)]
    if leaks:
        raise NotStored("; ".join(leaks))
    write(node, path)


def execute(node: NotebookNode, folder: Path) -> dict[str, dict[str, Any]]:
    """Execute a notebook in place, with `folder` as its working folder.

    Returns the final states of its widgets by model id. Errors: `NotStored`, naming the cell.
    """
    # The kernel of this interpreter, whatever else the user has registered as python3.
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    give_ids(node, "executed")
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.execution_count = None  # or a failure would be blamed on a cell of the last run
    client = NotebookClient(
        node,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )
    try:
        client.execute()
    except CellExecutionError as failure:
        raise NotStored(f"{last_run(node)} failed: {failure.ename}: {failure.evalue}") from None
    except CellTimeoutError:
        raise NotStored(f"{last_run(node)} took more than {CELL_TIMEOUT} s") from None
    except DeadKernelError:
        raise NotStored(f"the kernel died; last, {last_run(node)} ran") from None
    widgets = node.metadata.pop("widgets", {})
    return widgets.get("application/vnd.jupyter.widget-state+json", {}).get("state", {})


def last_run(node: NotebookNode) -> str:
    """Name the code cell that ran last, by number and first line."""
    cells = [cell for cell in node.cells if cell.cell_type == "code"]
    number = max((n for n, cell in enumerate(cells, 1) if cell.execution_count), default=1)
    return f"code cell {number} ({cells[number - 1].source.partition(chr(10))[0]!r})"


def make_widgets_plain(node: NotebookNode, states: dict[str, dict[str, Any]]) -> None:
    """Replace each widget by the text it ended with; drop it if it was hidden in the end.

    A view that brings HTML of its own keeps that instead.

    A stored widget is an empty frame to everyone who has no kernel. Errors: `NotStored` if such a
    cell is not tagged nbval-ignore-output, since what is stored will never equal a live widget.
    """
    for number, cell in enumerate((c for c in node.cells if c.cell_type == "code"), start=1):
        kept = []
        for output in cell.outputs:
            view = output.get("data", {}).get(WIDGET_VIEW)
            if view is None:
                kept.append(output)
                continue
            if "nbval-ignore-output" not in tags(cell):
                raise NotStored(
                    f"code cell {number} shows a widget: tag it nbval-ignore-output, and show "
                    "what is to be compared in a cell of its own"
                )
            if "text/html" in output.data:
                del output.data[WIDGET_VIEW]
                if output.data["text/html"]:  # else the view's plain form is an output of its own
                    kept.append(output)
            elif not is_hidden(view["model_id"], states):
                text = " ".join(widget_text(view["model_id"], states)).strip()
                text = text or "An interactive view: run this cell to see it."
                kept.append(nbformat.v4.new_output("display_data", {"text/plain": text}))
        cell.outputs = kept


def widget_text(model_id: str, states: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Go through the texts of a widget and of those inside it, in order."""
    state = states.get(model_id, {}).get("state", {})
    kind = state.get("_model_name", "")
    if kind in {"FloatProgressModel", "IntProgressModel"}:
        low, high = state.get("min", 0), state.get("max", 100)
        filled = round(BAR_WIDTH * (state.get("value", 0) - low) / ((high - low) or 1))
        yield f"|{'█' * filled}{' ' * (BAR_WIDTH - filled)}|"
    elif kind in {"HTMLModel", "LabelModel"}:
        text = html.unescape(re.sub(r"<[^>]+>", "", state.get("value", "")))
        yield text.replace("\u2007", " ").strip()
    for child in state.get("children", []):
        yield from widget_text(child.removeprefix("IPY_MODEL_"), states)


def is_hidden(model_id: str, states: dict[str, dict[str, Any]]) -> bool:
    """Tell whether a widget was taken off the page, as tqdm does with `leave=False`."""
    state = states.get(model_id, {}).get("state", {})
    layout = states.get(str(state.get("layout", "")).removeprefix("IPY_MODEL_"), {})
    look = layout.get("state", {})
    return look.get("visibility") == "hidden" or look.get("display") == "none"


def make_paths_plain(node: NotebookNode) -> None:
    """Write the paths of this machine in the outputs as paths that mean something to others."""
    for cell in node.cells:
        if cell.cell_type == "code":
            cell.outputs = [plain_paths(output) for output in cell.outputs]


def plain_paths(value: Any) -> Any:
    """Replace the paths of this machine in every text inside `value`.

    The order counts: the environment and the repository usually lie in the home folder.
    """
    if isinstance(value, dict):
        return nbformat.from_dict({key: plain_paths(item) for key, item in value.items()})
    if isinstance(value, list):
        return [plain_paths(item) for item in value]
    if not isinstance(value, str):
        return value
    for path, name in known_folders():
        whole = re.escape(path) + ("" if path.endswith("/") else r"(?![\w-])")
        value = re.sub(whole, name, value)
    return value


def known_folders() -> list[tuple[str, str]]:
    """Return folders of this machine and what a reader should see in their place."""
    from helpers.server import engine_python
    from helpers.server.records import state_dir

    home = str(Path.home())
    folders = [
        (str(state_dir()), "~/.cache/vllm-score-notebooks"),
        (str(Path(engine_python()).parent.parent), ".venv"),
        (sys.prefix, ".venv"),
        (f"{REPOSITORY}/", ""),
        (str(REPOSITORY), "."),
        (sysconfig.get_path("stdlib"), "python"),
        (home, "~"),
    ]
    # IPython writes the home folder as ~ by itself, in tracebacks.
    short = [
        (f"~{path[len(home) :]}", name) for path, name in folders if path.startswith(f"{home}/")
    ]
    return [*short, *folders]


def names_shown(node: NotebookNode) -> Iterator[str]:
    """Go through the outputs that hold the name of this machine or of its user."""
    names = {platform.node(), platform.node().partition(".")[0], getpass.getuser()}
    names = {name for name in names if len(name) > 2} - COMMON_NAMES
    for number, cell in enumerate(node.cells, start=1):
        for output in cell.get("outputs", []):
            for name in names:
                if any(re.search(rf"\b{re.escape(name)}\b", text) for text in output_texts(output)):
                    yield f"cell {number} shows the name {name!r} of this machine or its user"


if __name__ == "__main__":
    sys.exit(main())
