"""Build the site from the stored notebooks and the pages: `make site`.

    build_site.py [--repo OWNER/NAME] [--branch BRANCH] [--serve]

Sphinx and its theme live in the environment `.envs/site`. Nothing is executed. What Sphinx reads is
staged first, in the repository's own layout, so links between notebooks and pages stay as they
are. On the way a notebook loses its navigation bar and badges, since the site has its own, and its
pictures gain their alternative texts from `site/alternative_texts.json`. A link to a file that is
no page leads to a copy of the file; a link to a folder leads to GitHub where REPO is set.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import nbformat

import badges
import side_environment
from notebook_rules import NOTEBOOKS, REPOSITORY, Notebook, notebook_paths, tags
from setup_env import Environment

SITE = REPOSITORY / "site"
BUILD = SITE / "build"
ENVIRONMENT = "site"
# The pages beside the notebooks, in the order of the contents; the first is the site's first.
PAGES = (
    "README.md",
    "docs/glossary.md",
    "docs/troubleshooting.md",
    "docs/workshop.md",
    "docs/gpu.md",
    "docs/published_scores.md",
    "deploy/README.md",
    "benchmarks/README.md",
    "src/helpers/offline_reranker/README.md",
    "src/helpers/corpus/DATA_CARD.md",
    "notebooks/data/northlight/DATA_CARD.md",
    "tests/README.md",
    "CONTRIBUTING.md",
)
ROOMS = ("client", "bulk", "server", "search", "monitor", "views", "corpus", "errors", "tables")
ALTERNATIVE_TEXTS = SITE / "alternative_texts.json"
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<to>[^)#\s]+)(?P<heading>#[^)\s]+)?\)")
CHINESE = "[中文](README.zh.md)\n\n"  # the site has no Chinese edition yet
OUTSIDE = re.compile(r"[a-z]+:")


@dataclass(frozen=True)
class Copy:
    """The published copy that the site belongs to.

    Attributes:
        repo: Owner and name on GitHub, or "" where there is none.
        branch: Its branch.
    """

    repo: str = ""
    branch: str = "main"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repo", default="", help="the published copy, as OWNER/NAME")
    parser.add_argument("--branch", default="main", help="a branch or tag of it (default: main)")
    parser.add_argument("--serve", action="store_true", help="serve the site on loopback")
    options = parser.parse_args(arguments)
    if options.repo:
        try:
            badges.check_place(options.repo, options.branch)
        except ValueError as problem:
            parser.error(str(problem))
    status = side_environment.main([ENVIRONMENT]) or build(Copy(options.repo, options.branch))
    if status:
        return status
    print(f"The site: {(BUILD / 'html' / 'index.html').as_uri()}")
    if options.serve:
        serve(BUILD / "html")
    return 0


def build(copy: Copy, folder: Path = BUILD) -> int:
    """Stage the sources in `folder/source`, write the site to `folder/html`, return the status."""
    source, html = folder / "source", folder / "html"
    for old in (source, html):
        shutil.rmtree(old, ignore_errors=True)
    stage(source, copy)
    python = Environment(REPOSITORY / ".envs" / ENVIRONMENT).python
    command = [python, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q"]
    command += ["-n", "-d", folder / "doctrees", source, html]
    helpers = {"HELPERS": str(REPOSITORY / "src"), "SITE_REPO": copy.repo}
    return subprocess.run(command, env={**os.environ, **helpers}, check=False).returncode


def serve(html: Path) -> None:
    """Serve a folder on a free loopback port until the user interrupts it."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        print(f"Open http://127.0.0.1:{server.server_port}/ in a browser; Ctrl+C ends it.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def pages() -> list[str]:
    """Return the paths of all that becomes a page, from the repository's root."""
    return [path for path in PAGES if (REPOSITORY / path).is_file()] + [
        f"{NOTEBOOKS.name}/{path.name}" for path in notebook_paths()
    ]


def stage(source: Path, copy: Copy) -> None:
    """Write into a folder what Sphinx reads."""
    shutil.copytree(SITE, source, ignore=shutil.ignore_patterns("build", "*.json", "__pycache__"))
    (source / "extra" / "downloads").mkdir(parents=True)
    texts = json.loads(ALTERNATIVE_TEXTS.read_text("utf-8"))
    for path in pages():
        target = source / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".ipynb":
            node = notebook_page(Notebook.read(REPOSITORY / path).node, path, copy, texts, source)
            nbformat.write(node, target)
        else:
            text = (REPOSITORY / path).read_text("utf-8")
            text = text.replace(CHINESE, "")
            target.write_text(with_links(text, path, copy, source), "utf-8")
    (source / "index.md").write_text(index((source / "README.md").read_text("utf-8")), "utf-8")
    (source / "README.md").unlink()
    for room in ROOMS:
        title = f"helpers.{room}"
        text = f"# {title}\n\n```{{eval-rst}}\n.. automodule:: {title}\n   :members:\n```\n"
        (source / "api" / f"{room}.md").write_text(text, "utf-8")


def index(readme: str) -> str:
    """Return the first page: the README, the last full run, and the tree of contents."""
    numbered = [f"{NOTEBOOKS.name}/{path.stem}" for path in notebook_paths()]
    others = [path.removesuffix(".md") for path in pages() if path in PAGES[1:]]
    rooms = ["api/index"]
    trees = [("Notebooks", numbered), ("Pages", others), ("Helpers", rooms)]
    blocks = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```"])
        for caption, names in trees
    ]
    run = os.environ.get("SITE_LAST_RUN", "").strip()
    note = f"\n\n```{{note}}\nThe last full run of all tests: {run}.\n```\n" if run else ""
    return readme.rstrip() + note + "\n\n" + "\n\n".join(blocks) + "\n"


def notebook_page(
    node: nbformat.NotebookNode, path: str, copy: Copy, texts: dict[str, str], source: Path
) -> nbformat.NotebookNode:
    """Return the notebook as the site shows it.

    texts: alternative texts by "name of the notebook/id of the cell".
    """
    node.cells = [cell for cell in node.cells if not {"navigation", "badges"} & set(tags(cell))]
    name = posixpath.basename(path)
    for cell in node.cells:
        if cell.cell_type == "markdown":
            cell.source = with_links(cell.source, path, copy, source)
            continue
        if "install" in tags(cell):
            cell.metadata["tags"] = [*tags(cell), "hide-input"]
        if has_picture(cell):
            alt = texts.get(f"{Path(name).stem}/{cell.id}", "A plot that the cell above draws.")
            cell.metadata["mystnb"] = {"image": {"alt": alt}}
    shutil.copyfile(REPOSITORY / path, source / "extra" / "downloads" / name)
    first = node.cells[0]
    title, _, rest = first.source.partition("\n")
    first.source = f"{title}\n\n{openers(name, copy)}\n{rest}"
    return node


def openers(name: str, copy: Copy) -> str:
    """Return the row of links under a notebook's title."""
    links = [f'<a href="../downloads/{name}" download>Download notebook</a>']
    if copy.repo:
        blob = quote(f"{copy.repo}/blob/{copy.branch}/{NOTEBOOKS.name}/{name}")
        quoted_url = quote(f"https://github.com/{blob}", safe=":/")
        links += [
            f'<a href="{address.format(blob=blob, quoted_url=quoted_url)}">Open in {platform}</a>'
            for platform, _, address in badges.PLATFORMS
        ]
    return f'<p class="openers">{" ".join(links)}</p>\n'


def has_picture(cell: nbformat.NotebookNode) -> bool:
    """Tell whether a cell has stored a picture."""
    return any("image/png" in output.get("data", {}) for output in cell.get("outputs", []))


def pictures() -> Iterator[str]:
    """Yield "name of the notebook/id of the cell" for each cell that has stored a picture."""
    for path in notebook_paths():
        for cell in Notebook.read(path).node.cells:
            if has_picture(cell):
                yield f"{path.stem}/{cell.id}"


def with_links(text: str, path: str, copy: Copy, source: Path) -> str:
    """Return a page's text with links that hold on the site, and stage the files that it links to.

    path: the page, from the repository's root.
    """
    folder = posixpath.dirname(path)

    def rewrite(link: re.Match[str]) -> str:
        to, heading = link["to"], link["heading"] or ""
        if OUTSIDE.match(to):
            return link[0]
        place = posixpath.normpath(posixpath.join(folder, to))
        if place == "README.md":
            return f"[{link['text']}]({posixpath.relpath('index.md', folder or '.')}{heading})"
        if place in pages():
            return link[0]
        if (REPOSITORY / place).is_file():
            target = source / "files" / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / place, target)
            new = posixpath.relpath(f"files/{place}", folder or ".")
            return f"{link['picture']}[{link['text']}]({new})"
        if copy.repo:
            return f"[{link['text']}](https://github.com/{copy.repo}/tree/{copy.branch}/{place})"
        return link["text"]

    return LINK.sub(rewrite, text)


if __name__ == "__main__":
    sys.exit(main())
