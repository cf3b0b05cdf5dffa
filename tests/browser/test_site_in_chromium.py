"""Read the built site as a visitor does: on a phone and on a desk, by day and by night."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

# The first page with its wide tables; plots, widgets and tables; the reference; and Chinese.
PAGES = [
    "index.html",
    "notebooks/06_explore_scores.html",
    "api/client.html",
    "zh/notebooks/03_score_one_query_against_many.html",
]
WIDTHS = {390: "a phone", 1280: "a desk"}
HEIGHT = 900
# What of an article the page cuts or pushes out, except inside of what scrolls by itself.
TOO_WIDE = """() => {
  const scrolls = e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX);
  const inside = e => e && !e.matches('.bd-article') && (scrolls(e) || inside(e.parentElement));
  return [...document.querySelectorAll('.bd-article *')]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)
    .filter(e => !inside(e.parentElement))
    .map(e => `${e.tagName} ${e.className} ${e.textContent.slice(0, 60)}`);
}"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serve files, and print nothing."""

    def log_message(self, *_: object) -> None:
        """Keep the requests out of what pytest shows."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Serve the site on loopback, and give its address."""
    handler = functools.partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def page(chromium: Browser, address: str) -> Iterator[Page]:
    """Give a page of a desk's width that may read the clipboard."""
    with chromium.new_context(
        base_url=address,
        viewport={"width": 1280, "height": HEIGHT},
        permissions=["clipboard-read", "clipboard-write"],
    ) as context:
        page = context.new_page()
        page.set_default_timeout(20_000)
        yield page


def findings(page: Page) -> list[str]:
    """Return what axe finds serious or critical on a page, by rule and by place."""
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:120]}"
        for rule in Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS, ids=WIDTHS.values())
@pytest.mark.parametrize("place", PAGES)
def test_a_page_fits_and_is_accessible(
    page: Page, pictures: Path | None, place: str, width: int, theme: str
) -> None:
    errors: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(error.message))
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.emulate_media(color_scheme=theme)
    page.goto(f"/{place}")
    assert page.locator("html").get_attribute("data-theme") == theme
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.evaluate(TOO_WIDE) == []
    images = page.locator(".bd-article img")
    assert all(images.evaluate_all("all => all.map(e => e.naturalWidth > 0)"))
    assert errors == []  # before axe, which asks for files of its own
    assert findings(page) == []
    if pictures:
        name = place.removesuffix(".html").replace("/", "_")
        file = pictures / f"site_{name}_{theme}_{width}.png"
        page.screenshot(path=str(file), full_page=True)


def test_what_is_too_wide_or_without_a_text_is_found(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": HEIGHT})
    page.goto("/api/tables.html")
    assert page.evaluate(TOO_WIDE) == findings(page) == []
    page.evaluate(
        """() => document.querySelector('.bd-article').insertAdjacentHTML(
            'beforeend', '<div style="width:900px">wide</div><img src="/_static/favicon.svg">')"""
    )
    assert [found.split()[0] for found in page.evaluate(TOO_WIDE)] == ["DIV"]
    assert [found.split()[0] for found in findings(page)] == ["image-alt"]


def test_widgets_are_shown_in_their_stored_form(page: Page) -> None:
    page.goto("/notebooks/06_explore_scores.html")
    stored = page.locator("[id^=score-view]")
    assert stored.count() >= 2
    for view in stored.all():
        expect(view).to_be_visible()
    rows = stored.first.locator("tbody tr")
    assert rows.count() == 5
    expect(rows.first).to_contain_text("Japan uses the yen.")
    assert page.get_by_text("Error displaying widget").count() == 0


@pytest.mark.parametrize(
    ("edition", "query", "place"),
    [
        ("", "Platt scaling", "/notebooks/07_read_scores_right.html"),
        ("", "ScoreServer", "/api/server.html"),
        ("zh/", "交叉编码器", "/zh/docs/glossary.html"),
        ("zh/", "vLLM 吞吐量", "/zh/notebooks/12_measure_throughput.html"),
    ],
)
def test_the_search_finds_a_page(page: Page, edition: str, query: str, place: str) -> None:
    page.goto(f"/{edition}index.html")
    page.keyboard.press("Control+k")
    page.locator("#pst-search-dialog input").fill(query)
    page.keyboard.press("Enter")
    found = page.locator("#search-results ul.search li > a")
    expect(found.first).to_be_visible()
    page.wait_for_function("() => !document.querySelector('#search-progress')?.innerText.trim()")
    links = found.evaluate_all("all => all.map(link => new URL(link.href).pathname)")
    assert place in links


@pytest.mark.parametrize("query", ["zyzzyva", "魑魅魍魉"])
def test_the_search_says_when_there_is_nothing(page: Page, query: str) -> None:
    page.goto(f"/zh/search.html?q={query}")
    expect(page.locator("#search-results .search-summary")).to_contain_text("没有")
    assert page.locator("#search-results ul.search li").count() == 0


def test_the_button_at_a_cell_copies_its_code(page: Page) -> None:
    page.goto("/notebooks/06_explore_scores.html")
    cell = page.locator("div.cell_input div.highlight", has_text="playground.result.ranked()").first
    cell.hover()
    cell.locator("button.copybtn").click()
    page.wait_for_function("async () => (await navigator.clipboard.readText()) !== ''")
    copied = page.evaluate("() => navigator.clipboard.readText()")
    assert copied.strip() == cell.locator("pre").inner_text().strip()


@pytest.mark.parametrize("edition", ["", "zh/"])
def test_next_and_previous_lead_through_the_notebooks(page: Page, edition: str) -> None:
    page.goto(f"/{edition}notebooks/05_rerank_documents.html")
    page.locator("a.right-next").click()
    page.wait_for_url(f"**/{edition}notebooks/06_explore_scores.html")
    page.locator("a.left-prev").click()
    page.wait_for_url(f"**/{edition}notebooks/05_rerank_documents.html")


def test_a_reader_changes_the_language_on_the_way_and_the_theme_stays(page: Page) -> None:
    page.goto("/notebooks/05_rerank_documents.html")
    page.locator(".theme-switch-button:visible").click()
    page.locator(".theme-change-button[data-mode=dark]:visible").click()
    page.locator("a.language-switch").click()
    page.wait_for_url("**/zh/notebooks/05_rerank_documents.html")
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.locator("a.language-switch").click()
    page.wait_for_url("**/notebooks/05_rerank_documents.html")
    assert page.locator("html").get_attribute("lang") == "en"


def test_the_contents_open_on_a_phone(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": HEIGHT})
    page.goto("/docs/glossary.html")
    link = page.locator(".bd-sidebar-primary a", has_text="Rerank documents")
    expect(link).not_to_be_in_viewport()
    page.locator(".bd-header-article .primary-toggle").click()
    expect(link).to_be_in_viewport()
    link.click()
    page.wait_for_url("**/notebooks/05_rerank_documents.html")
