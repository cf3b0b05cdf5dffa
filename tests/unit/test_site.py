"""What the site shows in both languages: pages, links, pictures; built without a warning."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import build_site
import translations
from floors import REPOSITORY
from notebook_rules import NO_CHINESE_YET, notebook_paths

HELPER = REPOSITORY / "src" / "helpers"
ENGLISH, CHINESE = build_site.editions()
SWITCH = re.compile(r'class="language-switch" href="([^"]+)"')


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


def test_the_built_site_has_every_page_no_broken_link_and_no_picture_without_a_text(site) -> None:
    for edition in (ENGLISH, CHINESE):
        for place in edition.pages.values():
            assert (site / edition.folder / f"{place}.html").is_file(), (edition.name, place)
    assert broken_links(site) == []
    assert {str(p): bad for p in site.rglob("*.html") if (bad := Page(p).without_alt)} == {}


def test_every_page_leads_to_its_twin_or_to_the_start_in_the_other_language(site) -> None:
    for edition, other in ((ENGLISH, CHINESE), (CHINESE, ENGLISH)):
        for place in edition.pages.values():
            page = site / edition.folder / f"{place}.html"
            switches = SWITCH.findall(page.read_text("utf-8"))
            twin = place if place in other.pages.values() else "index"
            assert [(page.parent / to).resolve() for to in switches] == [
                (site / other.folder / f"{twin}.html").resolve()
            ]


def test_every_notebook_has_a_chinese_page_but_for_those_that_wait_for_it() -> None:
    both = set(ENGLISH.pages.values()) & set(CHINESE.pages.values())
    assert set(CHINESE.pages.values()) == both
    named = {f"notebooks/{path.stem}" for path in notebook_paths()}
    named |= {build_site.place_of(page) for page in translations.PAGES}
    assert {place.rpartition("/")[2] for place in named - both} <= NO_CHINESE_YET


def test_a_built_site_is_kept_until_a_source_changes(tmp_path, monkeypatch) -> None:
    built = []

    class Sphinx:
        def __init__(self, edition, folder, copy) -> None:
            built.append(edition.name)
            (folder / "html" / edition.folder).mkdir(parents=True, exist_ok=True)

        def __enter__(self):
            return self

        def __exit__(self, *_) -> None:
            """End."""

        def wait(self) -> int:
            return int("fails" in built)

    monkeypatch.setattr(build_site, "sphinx", Sphinx)
    plain, published = build_site.Copy(), build_site.Copy("someone/scores")
    for copy, builds in [(plain, 2), (plain, 2), (published, 4)]:
        assert build_site.build(copy, tmp_path) == 0
        assert len(built) == builds
    monkeypatch.setenv("SITE_LAST_RUN_DATE", "2026-11-23")
    monkeypatch.setenv("SITE_LAST_RUN_PLATFORM", "Ubuntu 24.04")
    built.append("fails")
    for builds in (7, 9):  # a failed build is not kept
        assert build_site.build(published, tmp_path) == 1
        assert len(built) == builds


@pytest.mark.parametrize("edition", build_site.editions(), ids=lambda edition: edition.name)
def test_the_first_page_names_the_last_full_run_where_one_is_known(monkeypatch, edition) -> None:
    assert "2026" not in build_site.index("# Title\n", edition)
    monkeypatch.setenv("SITE_LAST_RUN_DATE", "2026-11-23")
    monkeypatch.setenv("SITE_LAST_RUN_PLATFORM", "Ubuntu 24.04")
    text = build_site.index("# Title\n", edition)
    assert "2026-11-23" in text and "Ubuntu 24.04" in text


def test_a_link_to_nowhere_is_found(tmp_path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#there">b</a> <a href="c.html">c</a>')
    (tmp_path / "b.html").write_text('<p id="here"></p>')
    assert broken_links(tmp_path) == ["a.html: b.html#there", "a.html: c.html"]


@pytest.mark.parametrize("edition", build_site.editions(), ids=lambda edition: edition.name)
def test_every_stored_picture_has_an_alternative_text_and_every_text_a_picture(edition) -> None:
    file = edition.alternative_texts
    texts = json.loads(file.read_text("utf-8"))
    assert set(texts) == set(build_site.pictures()), f"mend {file.relative_to(REPOSITORY)}"
    assert all(len(re.findall(r"[a-z]+|[\u4e00-\u9fff]", text)) >= 6 for text in texts.values())


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
        ("[中文](../README.zh.md)", '<a href="../zh/index.html" hreflang="zh">中文</a>'),
        (
            "[02_score_one_pair](../notebooks/02_score_one_pair.ipynb)",
            "[02_<wbr>score_<wbr>one_<wbr>pair](../notebooks/02_score_one_pair.ipynb)",
        ),
    ],
)
def test_links_of_a_page_hold_on_the_site(tmp_path, link: str, becomes: str) -> None:
    assert linked(link, "docs/workshop.md", ENGLISH, tmp_path) == becomes


@pytest.mark.parametrize(
    ("link", "becomes"),
    [
        ("[词](../../docs/zh/glossary.md#步step)", "[词](../docs/glossary.md#步step)"),
        ("[下一个](03_score_one_query_against_many.ipynb)", None),
        (
            "[成绩](../../docs/published_scores.md#the-models)",
            '<a href="../../docs/published_scores.html#the-models" hreflang="en">成绩</a>',
        ),
    ],
)
def test_links_of_a_chinese_page_lead_to_chinese_pages_where_there_are_any(
    tmp_path, link: str, becomes: str | None
) -> None:
    done = linked(link, "notebooks/zh/02_score_one_pair.ipynb", CHINESE, tmp_path)
    assert done == (link if becomes is None else becomes)


def test_a_folder_leads_to_the_published_copy_where_there_is_one(tmp_path) -> None:
    copy = build_site.Copy("someone/scores", "main")
    done = linked("[a folder](../deploy)", "docs/workshop.md", ENGLISH, tmp_path, copy)
    assert done == "[a folder](https://github.com/someone/scores/tree/main/deploy)"


def test_the_platforms_are_offered_only_for_a_published_copy() -> None:
    path = "notebooks/zh/00_start_here.ipynb"
    assert "Colab" not in build_site.openers(path, CHINESE, build_site.Copy())
    row = build_site.openers(path, CHINESE, build_site.Copy("someone/scores"))
    assert re.findall(r">([^<]+)</a>", row)[:2] == ["下载笔记本", "在 Colab 中打开"]
    assert "github/someone/scores/blob/main/notebooks/zh/00_start_here.ipynb" in row
    row = build_site.openers("notebooks/00_start_here.ipynb", ENGLISH, build_site.Copy("a/b"))
    assert re.findall(r">([^<]+)</a>", row)[:3] == [
        "Download notebook",
        "Open in Colab",
        "Open in Kaggle",
    ]


def linked(
    link: str,
    path: str,
    edition: build_site.Edition,
    source: Path,
    copy: build_site.Copy | None = None,
) -> str:
    return build_site.with_links(link, path, edition, copy or build_site.Copy(), source)
