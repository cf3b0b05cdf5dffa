"""The Chinese edition says what the English one says, and cannot fall behind it unseen."""

import re

import polib
import pytest
from markdown_it import MarkdownIt

import translations
from translations import Text, anchors, build, built, check, differences, texts, update

ENGLISH = """# Score a pair

Send `text_1` and 2 texts to [the server](notebooks/01_launch.md).

## What comes back

The score is 0.98 of 1.

```python
score(1)
```
"""
CHINESE = {
    "# Score a pair": "# 给一对文本打分",
    "Send `text_1` and 2 texts to [the server](notebooks/01_launch.md).": (
        "把 `text_1` 和 2 段文本发给[服务器](notebooks/01_launch.md)。"
    ),
    "## What comes back": "## 返回的内容",
    "The score is 0.98 of 1.": "得分是 0.98，满分 1。",
}


@pytest.fixture
def page(tmp_path, monkeypatch) -> Text:
    """A translated page of its own."""
    monkeypatch.setattr(translations, "UNITS", tmp_path / "units")
    translations.heading_pairs.cache_clear()
    page = Text(tmp_path / "page.md", tmp_path / "zh" / "page.md")
    page.source.write_text(ENGLISH, "utf-8")
    update(page)
    units = polib.pofile(str(page.file))
    for unit in units:
        unit.msgstr = CHINESE[unit.msgid]
    units.save(str(page.file))
    build(page)
    return page


@pytest.mark.parametrize("text", texts(), ids=lambda text: text.name)
def test_every_text_of_the_collection_is_in_step(text):
    assert check(text) == []


@pytest.mark.parametrize("text", texts(), ids=lambda text: text.name)
def test_code_and_outputs_are_those_of_the_english_notebook(text):
    if text.source.suffix != ".ipynb":
        pytest.skip("a page has no cells")
    ours, theirs = (
        translations.Notebook.read(path).node.cells for path in (text.source, text.target)
    )
    assert [cell.id for cell in ours] == [cell.id for cell in theirs]
    for one, other in zip(ours, theirs, strict=True):
        if one.cell_type == "code":
            assert one.outputs == other.outputs
            if "install" not in translations.tags(one):
                assert one.source == other.source


def test_links_call_a_notebook_by_its_chinese_title():
    titles = {text.name: translations.heading_pairs(text)[0][1] for text in texts()}
    link = re.compile(r"\[\d\d ([^\]]*[\u4e00-\u9fff][^\]]*)\]\(\S*?(\d\d_\w+)\.ipynb")
    units = [unit for text in texts() for unit in polib.pofile(str(text.file))]
    found = [pair for unit in units for pair in link.findall(unit.msgstr)]
    assert len(found) > 30, "those of the map and of the plans for teaching"
    assert [pair for pair in found if pair[0] != titles[pair[1]]] == []


def test_what_waits_for_a_translator_is_there():
    waiting = translations.NO_CHINESE_YET
    assert {text.name for name in waiting for text in texts([name])} == waiting


def test_a_page_is_built_from_its_units_and_its_code(page):
    assert check(page) == []
    text = page.target.read_text("utf-8")
    assert text.startswith("# 给一对文本打分\n\n把 `text_1`")
    assert "```python\nscore(1)\n```" in text
    assert "](../notebooks/01_launch.md)" in text, "the link fits the folder of the translation"


def test_a_changed_english_text_is_seen_until_somebody_translates_it(page):
    page.source.write_text(ENGLISH.replace("The score is", "The logit is"), "utf-8")
    assert "translated from another English text" in check(page)[0]
    assert update(page) == "page: 1 of 4 units wait for a translator"
    assert "translated from another English text" in check(page)[0]


def test_a_new_paragraph_is_seen(page):
    page.source.write_text(ENGLISH + "\nOne more.\n", "utf-8")
    assert check(page) == ["page: unit 'What comes back 3' is not translated"]
    update(page)
    assert check(page) == ["page: unit 'What comes back 3' is not translated"]


def test_new_numbers_are_carried_over(page):
    page.source.write_text(ENGLISH.replace("0.98 of 1", "0.91 of 1"), "utf-8")
    assert update(page) == ""
    build(page)
    assert "得分是 0.91，满分 1。" in page.target.read_text("utf-8")


def test_a_page_that_was_edited_by_hand_is_seen(page):
    page.target.write_text("# 别的", "utf-8")
    assert check(page)[0].endswith("is not what its units give: run make translations")


@pytest.mark.parametrize(
    ("translation", "what"),
    [
        ("把 `text_2` 发给[服务器](a.md)，共 2 次。", "code"),
        ("把 `text_1` 发给[服务器](b.md)，共 2 次。", "links"),
        ("把 `text_1` 发给[服务器](a.md)，共 3 次。", "numbers"),
        ("# 把 `text_1` 发给[服务器](a.md)，共 2 次。", "headings"),
    ],
)
def test_what_a_translation_may_not_change(translation, what):
    found = list(differences("Send `text_1` to [the server](a.md) 2 times.", translation))
    assert len(found) == 1
    assert found[0].startswith(f"has other {what}")


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("some 100 million parameters", "约 1 亿个参数"),
        ("holds 0.6 billion", "装得下 6 亿个"),
        ("read in November 2026", "2026 年 11 月读取"),
    ],
)
def test_each_language_writes_amounts_and_dates_in_its_own_way(english, chinese):
    assert list(differences(english, chinese)) == []
    assert list(differences(english, chinese.replace("1", "2").replace("6", "7")))


def asterisks(markdown: str) -> list[str]:
    """The texts in which Markdown shows an asterisk, since it takes it for no mark."""
    inline = MarkdownIt("commonmark").enable("table").parse(markdown)
    texts = (part for token in inline for part in token.children or [] if part.type == "text")
    return [part.content for part in texts if "*" in part.content]


@pytest.mark.parametrize("text", texts(), ids=lambda text: text.name)
def test_every_bold_mark_shows(text):
    assert asterisks("**大小。**文件变小了") == ["**大小。**文件变小了"]
    assert asterisks("**大小**：文件变小了") == []
    units = polib.pofile(str(text.file))
    assert {unit.msgctxt: found for unit in units if (found := asterisks(unit.msgstr))} == {}


def test_links_to_headings_lead_to_the_chinese_headings(page):
    assert anchors(page)["what-comes-back"] == "返回的内容"
    assert "得分" in built(page)
