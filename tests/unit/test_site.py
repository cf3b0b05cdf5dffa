"""What the site shows: pages, links, pictures; and that Sphinx builds it without a warning."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import build_site
import side_environment
from floors import REPOSITORY, Refusal

HELPER = REPOSITORY / "src" / "helpers"


class Page(HTMLParser):
    """Collect the links, the anchors and the pictures of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.without_alt: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "img" and not (given.get("alt") or "").strip():
            self.without_alt.append(str(given.get("src")))
        self.anchors.update(value for name in ("id", "name") if (value := given.get(name)))
        self.links += [value for name in ("href", "src") if (value := given.get(name))]


def broken_links(html: Path) -> list[str]:
    """Return the links inside a site that lead to no file or no anchor."""
    # The theme keeps templates among its static files.
    found_pages = [path for path in html.rglob("*.html") if "_static" not in path.parts]
    pages = {path: Page(path) for path in found_pages}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link == "#":
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            found = target.is_file() or (target / "index.html").is_file()
            if found and parts.fragment and target in pages:
                found = unquote(parts.fragment) in pages[target].anchors
            if not found:
                broken.append(f"{path.relative_to(html)}: {link}")
    return broken


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make site` builds it."""
    try:
        side_environment.build(build_site.ENVIRONMENT, REPOSITORY)
    except Refusal as refusal:
        pytest.skip(f"the site's environment cannot be built here: {refusal}")
    folder = tmp_path_factory.mktemp("site")
    assert build_site.build(build_site.Copy(), folder) == 0, "Sphinx warned; see above"
    return folder / "html"


def test_the_built_site_has_every_page_no_broken_link_and_no_picture_without_a_text(html) -> None:
    for path in build_site.pages()[1:]:
        assert (html / path).with_suffix(".html").is_file(), path
    assert broken_links(html) == []
    assert {str(p): bad for p in html.rglob("*.html") if (bad := Page(p).without_alt)} == {}


def test_a_link_to_nowhere_is_found(tmp_path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#there">b</a> <a href="c.html">c</a>')
    (tmp_path / "b.html").write_text('<p id="here"></p>')
    assert broken_links(tmp_path) == ["a.html: b.html#there", "a.html: c.html"]


def test_every_stored_picture_has_an_alternative_text_and_every_text_a_picture() -> None:
    texts = json.loads(build_site.ALTERNATIVE_TEXTS.read_text("utf-8"))
    assert set(texts) == set(build_site.pictures()), "mend site/alternative_texts.json"
    assert all(len(text.split()) >= 6 for text in texts.values())


def test_each_room_of_the_helpers_has_a_page() -> None:
    there = {path.parent.name for path in HELPER.glob("*/__init__.py")}
    assert there <= set(build_site.ROOMS)


@pytest.mark.parametrize(
    ("link", "becomes"),
    [
        ("[home](../README.md)", "[home](../index.md)"),
        ("[terms](glossary.md#logit)", "[terms](glossary.md#logit)"),
        ("[unit](../deploy/compose.yaml)", "[unit](../files/deploy/compose.yaml)"),
        ("[out](https://docs.vllm.ai)", "[out](https://docs.vllm.ai)"),
        ("[a folder](../deploy)", "a folder"),
    ],
)
def test_links_of_a_page_hold_on_the_site(tmp_path, link: str, becomes: str) -> None:
    done = build_site.with_links(link, "docs/workshop.md", build_site.Copy(), tmp_path)
    assert done == becomes


def test_a_folder_leads_to_the_published_copy_where_there_is_one(tmp_path) -> None:
    copy = build_site.Copy("someone/scores", "main")
    done = build_site.with_links("[a folder](../deploy)", "docs/workshop.md", copy, tmp_path)
    assert done == "[a folder](https://github.com/someone/scores/tree/main/deploy)"


def test_the_platforms_are_offered_only_for_a_published_copy() -> None:
    name = "00_start_here.ipynb"
    assert "Colab" not in build_site.openers(name, build_site.Copy())
    row = build_site.openers(name, build_site.Copy("someone/scores"))
    assert re.findall(r">([^<]+)</a>", row)[:3] == [
        "Download notebook",
        "Open in Colab",
        "Open in Kaggle",
    ]
