"""Write badges into the notebooks that open them on hosted platforms, or take them out.

  badges.py OWNER/NAME [--branch BRANCH]  write them, in place of older ones
  badges.py none                          take them out

A badge leads to the notebook that it stands in, as published on GitHub. A platform that was led
there has this one file, so the first code cell then fetches the rest. Where a copy is published
only the publisher knows: so the collection carries no badges, and whoever publishes a copy of it
runs `make badges REPO=owner/name` there and commits what came of it.

Only these two cells change. Outputs, execution counts and the form of the file stay as they are.
"""

from __future__ import annotations

import argparse
import copy
import re
import shlex
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from nbformat import NotebookNode

from notebook_rules import NOTEBOOKS, Notebook, install_parts, notebook_paths, tags
from notebooks import frame_cell, write

TAG = "badges"
NONE = "none"
# Name, picture, and the address that opens a notebook; {blob} is its place below github.com.
PLATFORMS = (
    (
        "Colab",
        "https://colab.research.google.com/assets/colab-badge.svg",
        "https://colab.research.google.com/github/{blob}",
    ),
    (
        "Kaggle",
        "https://kaggle.com/static/images/open-in-kaggle.svg",
        "https://kaggle.com/kernels/welcome?src={quoted_url}",
    ),
    (
        "SageMaker Studio Lab",
        "https://studiolab.sagemaker.aws/studiolab.svg",
        "https://studiolab.sagemaker.aws/import/github/{blob}",
    ),
)
# Asks for the folder, not for the package: a restarted kernel knows the package and has lost the
# folder, which `%load` and links need.
FETCH = """\
if not os.path.isdir("../src/helpers"):
    !test -d {name} || git clone --quiet --depth 1 --branch {branch} https://github.com/{repo}
    %cd -q {name}/notebooks
"""
# GitHub's rules for the two names; a name in .git is the address of a clone.
REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,38}/(?!\.{1,2}$)[\w.-]{1,100}(?<!\.git)", re.ASCII)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repo", metavar="OWNER/NAME", help="the published copy, or none")
    parser.add_argument("--branch", default="main", help="a branch or tag of it (default: main)")
    options = parser.parse_args(arguments)
    try:
        check_place(options.repo, options.branch)
    except ValueError as problem:
        parser.error(str(problem))
    paths = notebook_paths()
    changed = [path for path in paths if write_badges(path, options.repo, options.branch)]
    done = "taken out of" if options.repo == NONE else "written into"
    print(f"Badges {done} {len(changed)} notebooks; {len(paths) - len(changed)} needed no change.")
    return 0


def check_place(repo: str, branch: str) -> None:
    """Refuse what cannot be a repository on GitHub, or a branch or tag of it.

    Errors: `ValueError`, with a text that says what was expected.
    """
    if repo != NONE and not REPO.fullmatch(repo):
        given = f"{repo!r} is no repository. " if repo else ""
        raise ValueError(
            f"{given}Name the copy on GitHub that the badges shall open: "
            f"make badges REPO=owner/name (REPO={NONE} takes the badges out)"
        )
    # Git itself knows best which names it takes.
    checked = subprocess.run(["git", "check-ref-format", f"refs/heads/{branch}"], check=False)
    if checked.returncode:
        raise ValueError(f"{branch!r} cannot be the name of a branch. Write BRANCH=main")


def write_badges(path: Path, repo: str, branch: str) -> bool:
    """Bring the badges of a stored notebook up to date, and tell whether anything changed.

    repo: owner and name, or "none" to take the badges out.
    """
    node = Notebook.read(path).node
    before = copy.deepcopy(node.cells)
    node.cells = [cell for cell in node.cells if TAG not in tags(cell)]
    for cell in node.cells:
        if "install" in tags(cell):
            cell.source = install_source(repo, branch, path.name[:2])
    if repo != NONE:
        # Under the title and what the notebook needs, before the code.
        node.cells.insert(1, badge_cell(path.name, repo, branch))
    if node.cells == before:
        return False
    write(node, path)
    return True


def install_source(repo: str, branch: str, number: str = "") -> str:
    """Return the source of the first code cell in a published copy, or with "none" in any clone.

    number: the two digits of the notebook, since some need more packages than others.
    """
    fetch = FETCH.format(
        name=shlex.quote(repo.rpartition("/")[2]), branch=shlex.quote(branch), repo=repo
    )
    return ("" if repo == NONE else fetch).join(install_parts(number))


def badge_cell(name: str, repo: str, branch: str) -> NotebookNode:
    """Return the cell with the badges of one notebook, given by its file name."""
    blob = quote(f"{repo}/blob/{branch}/{NOTEBOOKS.name}/{name}")
    quoted_url = quote(f"https://github.com/{blob}", safe=":/")
    badges = [
        f"[![Open in {platform}]({picture})]({address.format(blob=blob, quoted_url=quoted_url)})"
        for platform, picture, address in PLATFORMS
    ]
    return frame_cell("markdown", TAG, "\n".join(badges))


if __name__ == "__main__":
    sys.exit(main())
