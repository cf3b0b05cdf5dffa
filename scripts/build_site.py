"""Build the site from the stored notebooks and the pages: `make site`.

    build_site.py [--repo OWNER/NAME] [--branch BRANCH] [--serve]

Sphinx and its theme live in the environment `.envs/site`. Nothing is executed. The site has an
edition for each language: the English one at the top, the Chinese one below `zh/` under the same
names, so that each page knows its twin. What Sphinx reads is staged first. On the way a notebook
loses its navigation bar and badges, since the site has its own, and its pictures gain their
alternative texts. Links are rewritten: one to a page of the other edition leads there, one to a
file that is no page to a copy of the file, one to a folder to GitHub where REPO is set. Where the
staged files are those of the last build, that build is kept.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
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
from functools import cache
from pathlib import Path
from urllib.parse import quote

import nbformat

import badges
import side_environment
import translations
from notebook_rules import NOTEBOOKS, REPOSITORY, Notebook, notebook_paths, tags
from setup_env import Environment, alone

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
SHARED = ("conf.py", "static", "templates")  # what both editions need of the folder site/
LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?P<to>[^)#\s]+)(?P<heading>#[^)\s]+)?\)")
# A page's own link to its other edition, which the site's switch replaces.
SWITCH = re.compile(r"^\[(?:中文|English)\]\([^)]+\)\n\n", re.MULTILINE)
NAME = re.compile(r"^\d\d(_[a-z]+)+$")  # of a notebook; a narrow table breaks it after a "_"
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


@dataclass(frozen=True)
class Edition:
    """The site in one language.

    Attributes:
        name: What its files are called here.
        language: Sphinx's name of the language.
        folder: Where it lies on the site, "" for the top.
        pages: By path of each file from the repository's root, the place of its page in the
            edition, without an ending. Twins have the same place.
        words: What the site itself says, by what it is about.
        has_reference: Whether it holds the helpers' pages, whose docstrings are English.
    """

    name: str
    language: str
    folder: str
    pages: dict[str, str]
    words: dict[str, str]
    has_reference: bool

    @property
    def alternative_texts(self) -> Path:
        """The file with the alternative texts, by "name of the notebook/id of the cell"."""
        return SITE / "alternative_texts" / f"{self.name}.json"


ENGLISH = {
    "notebooks": "Notebooks",
    "pages": "Pages",
    "helpers": "Helpers",
    "download": "Download notebook",
    "open": "Open in {platform}",
    "last run": "All tests last passed on {date}: {platform}.",
}
CHINESE = {
    "notebooks": "笔记本",
    "pages": "页面",
    "download": "下载笔记本",
    "open": "在 {platform} 中打开",
    "last run": "全部测试最近一次通过：{date}，{platform}。",
}


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
    """Write the site to `folder/html`, and return Sphinx's status: 0 where it did not even warn.

    Calls at the same time wait for each other, and what the first has built the others find.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        source, html, stamp = folder / "source", folder / "html", folder / "stamp"
        shutil.rmtree(source, ignore_errors=True)
        for edition in editions():
            stage(source / edition.name, edition, copy)
        key = digest(source, copy)
        if stamp.is_file() and stamp.read_text() == key:
            return 0
        for old in (html, folder / "doctrees", stamp):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        with contextlib.ExitStack() as stack:
            running = [stack.enter_context(sphinx(edition, folder, copy)) for edition in editions()]
            status = max(process.wait() for process in running)
        if status == 0:
            stamp.write_text(key)
        return status


def sphinx(edition: Edition, folder: Path, copy: Copy) -> subprocess.Popen[bytes]:
    """Start Sphinx for one edition."""
    python = Environment(REPOSITORY / ".envs" / ENVIRONMENT).python
    command = [python, "-m", "sphinx", "-b", "html", "-W", "--keep-going", "-q", "-n"]
    command += ["-d", folder / "doctrees" / edition.name, folder / "source" / edition.name]
    settings = {
        "HELPERS": str(REPOSITORY / "src"),
        "SITE_LANGUAGE": edition.language,
        "SITE_REPO": copy.repo,
    }
    return subprocess.Popen(
        [*command, folder / "html" / edition.folder], env={**os.environ, **settings}
    )


def digest(source: Path, copy: Copy) -> str:
    """Return a text that differs where the built site would: in sources, docstrings or pins."""
    pins = REPOSITORY / side_environment.PINS / f"{ENVIRONMENT}.txt"
    roots = {source: "*", REPOSITORY / "src" / "helpers": "*.py"}
    read = [path for root, names in roots.items() for path in root.rglob(names)]
    done = hashlib.sha256(repr(copy).encode())
    for path in sorted(path for path in [*read, pins] if path.is_file()):
        done.update(f"{path}\0".encode() + path.read_bytes())
    return done.hexdigest()


def serve(html: Path) -> None:
    """Serve a folder on a free loopback port until the user interrupts it."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(html))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        print(f"Open http://127.0.0.1:{server.server_port}/ in a browser; Ctrl+C ends it.")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


def english_pages() -> list[str]:
    """Return the paths of all that becomes a page, from the repository's root."""
    return [path for path in PAGES if (REPOSITORY / path).is_file()] + [
        f"{NOTEBOOKS.name}/{path.name}" for path in notebook_paths()
    ]


@cache
def editions() -> tuple[Edition, Edition]:
    """Return the English and the Chinese edition."""
    places = {path: place_of(path) for path in english_pages()}
    twins = {
        str(text.target.relative_to(REPOSITORY)): place_of(str(text.source.relative_to(REPOSITORY)))
        for text in translations.texts()
        if text.target.is_file()
    }
    return (
        Edition("en", "en", "", places, ENGLISH, has_reference=True),
        Edition("zh", "zh_CN", "zh", twins, CHINESE, has_reference=False),
    )


def place_of(path: str) -> str:
    """Return the place of an English file's page on the site, without its ending."""
    return "index" if path == "README.md" else str(Path(path).with_suffix(""))


def stage(source: Path, edition: Edition, copy: Copy) -> None:
    """Write into a folder what Sphinx reads for one edition."""
    (source / "extra" / "downloads").mkdir(parents=True)
    for name in SHARED:
        if (SITE / name).is_dir():
            shutil.copytree(SITE / name, source / name)
        else:
            shutil.copyfile(SITE / name, source / name)
    texts = json.loads(edition.alternative_texts.read_text("utf-8"))
    for path, place in edition.pages.items():
        target = (source / place).with_suffix(Path(path).suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".ipynb":
            node = Notebook.read(REPOSITORY / path).node
            nbformat.write(notebook_page(node, path, edition, copy, texts, source), target)
        else:
            text = SWITCH.sub("", (REPOSITORY / path).read_text("utf-8"))
            target.write_text(with_links(text, path, edition, copy, source), "utf-8")
    other = next(each for each in editions() if each != edition)
    (source / "twins.json").write_text(json.dumps(sorted(other.pages.values())), "utf-8")
    first = source / "index.md"
    first.write_text(index(first.read_text("utf-8"), edition), "utf-8")
    if edition.has_reference:
        shutil.copytree(SITE / "api", source / "api")
        for room in ROOMS:
            title = f"helpers.{room}"
            text = f"# {title}\n\n```{{eval-rst}}\n.. automodule:: {title}\n   :members:\n```\n"
            (source / "api" / f"{room}.md").write_text(text, "utf-8")


def index(readme: str, edition: Edition) -> str:
    """Return the first page: the README, the last full run, and the tree of contents."""
    places = [place for place in edition.pages.values() if place != "index"]
    numbered = [place for place in places if posixpath.dirname(place) == NOTEBOOKS.name]
    trees = [
        (edition.words["notebooks"], numbered),
        (edition.words["pages"], [place for place in places if place not in numbered]),
    ]
    if edition.has_reference:
        rooms = ["api/index", *(f"api/{room}" for room in ROOMS)]
        trees.append((edition.words["helpers"], rooms))
    blocks = [
        "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```"])
        for caption, names in trees
    ]
    date, platform = (os.environ.get(f"SITE_LAST_RUN_{part}") for part in ("DATE", "PLATFORM"))
    if date and platform:
        run = edition.words["last run"].format(date=date, platform=platform)
        readme += f"\n\n```{{note}}\n{run}\n```\n"
    return readme.rstrip() + "\n\n" + "\n\n".join(blocks) + "\n"


def notebook_page(
    node: nbformat.NotebookNode,
    path: str,
    edition: Edition,
    copy: Copy,
    texts: dict[str, str],
    source: Path,
) -> nbformat.NotebookNode:
    """Return the notebook as the site shows it.

    texts: alternative texts by "name of the notebook/id of the cell".
    """
    node.cells = [cell for cell in node.cells if not {"navigation", "badges"} & set(tags(cell))]
    name = posixpath.basename(path)
    for cell in node.cells:
        if cell.cell_type == "markdown":
            cell.source = with_links(cell.source, path, edition, copy, source)
            continue
        if "install" in tags(cell):
            cell.metadata["tags"] = [*tags(cell), "hide-input"]
        if has_picture(cell):
            cell.metadata["mystnb"] = {"image": {"alt": texts[f"{Path(name).stem}/{cell.id}"]}}
    shutil.copyfile(REPOSITORY / path, source / "extra" / "downloads" / name)
    first = node.cells[0]
    title, _, rest = first.source.partition("\n")
    first.source = f"{title}\n\n{openers(path, edition, copy)}\n{rest}"
    return node


def openers(path: str, edition: Edition, copy: Copy) -> str:
    """Return the row of links under the title of the notebook at this path."""
    file, words = f"../downloads/{posixpath.basename(path)}", edition.words
    links = [f'<a href="{file}" download>{words["download"]}</a>']
    if copy.repo:
        blob = quote(f"{copy.repo}/blob/{copy.branch}/{path}")
        quoted_url = quote(f"https://github.com/{blob}", safe=":/")
        links += [
            f'<a href="{address.format(blob=blob, quoted_url=quoted_url)}">'
            f"{words['open'].format(platform=platform)}</a>"
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


def with_links(text: str, path: str, edition: Edition, copy: Copy, source: Path) -> str:
    """Return a page's text with links that hold on the site, and stage the files that it links to.

    path: the page, from the repository's root.
    """
    here = posixpath.dirname(edition.pages[path]) or "."
    other = next(each for each in editions() if each != edition)

    def rewrite(link: re.Match[str]) -> str:
        to, heading = link["to"], link["heading"] or ""
        if OUTSIDE.match(to):
            return link[0]
        place = posixpath.normpath(posixpath.join(posixpath.dirname(path), to))
        if place in edition.pages:
            page = edition.pages[place] + Path(place).suffix
            shown = NAME.sub(lambda name: name[0].replace("_", "_<wbr>"), link["text"])
            return f"[{shown}]({posixpath.relpath(page, here)}{heading})"
        if place in other.pages:
            # Sphinx knows nothing of the other edition, so this is no link of its own.
            page = posixpath.join(other.folder, other.pages[place]) + ".html"
            page = posixpath.relpath(page, posixpath.normpath(posixpath.join(edition.folder, here)))
            return f'<a href="{page}{heading}" hreflang="{other.name}">{link["text"]}</a>'
        if (REPOSITORY / place).is_file():
            target = source / "files" / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / place, target)
            new = posixpath.relpath(f"files/{place}", here)
            return f"{link['picture']}[{link['text']}]({new})"
        if copy.repo:
            return f"[{link['text']}](https://github.com/{copy.repo}/tree/{copy.branch}/{place})"
        return link["text"]

    return LINK.sub(rewrite, text)


if __name__ == "__main__":
    sys.exit(main())
