"""Write tables and lines of text that read well: in a notebook, in a terminal, in a drawing.

Every HTML table of the package comes from `html_table`. It is not pandas' Styler, because that puts
alignment and colours into a `<style>` element, which JupyterLab removes from each notebook that it
did not run itself, as in a fresh clone. Here each cell carries its own style, filled in by Jinja.
Texts may come from anywhere: markup in them is escaped, and what a terminal would obey is replaced.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import pandas as pd
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype, is_scalar

if TYPE_CHECKING:
    from jinja2 import Template

TEXT_WIDTH = 80
# A sentence in a notebook's table wraps; only what would fill half a page is cut.
SENTENCE_WIDTH = 400
ROWS_SHOWN = 50
DIGITS = 4
MISSING = "–"  # stands for NaN, None and their like

# Control characters, halves of surrogate pairs, and what turns the direction of the whole line.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_NUMBER = re.compile(rf"[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?%?|{MISSING}|")
_JOINER = "\u200d"  # makes one sign of two, in emoji and Indic scripts
_ONE_LINE = 24  # columns of texts up to this width never wrap
_LONGEST_WORD = 30  # longer ones, such as addresses, are broken rather than the page

_TABLE = """\
<table{{ {"style": look}|xmlattr }}>
{%- if caption %}<caption style="caption-side:top;text-align:left">{{ caption }}</caption>
{%- endif -%}
<thead><tr>
{%- for column in columns %}<th scope="col" dir="auto"
{{- {"title": column.head_title, "style": column.head_style}|xmlattr }}>{{ column.head }}</th>
{%- endfor %}</tr></thead><tbody>
{%- for row in range(rows) %}<tr{{ {"style": row_look}|xmlattr }}>
{%- for column in columns %}<{{ "th" if column.is_index else "td" }}
{{- {"scope": "row" if column.is_index else none, "dir": "auto",
     "title": column.titles[row], "style": column.styles[row]}|xmlattr }}>
{%- if column.is_html %}{{ column.texts[row]|safe }}{% else %}{{ column.texts[row] }}{% endif -%}
</{{ "th" if column.is_index else "td" }}>
{%- endfor %}</tr>{% endfor -%}
</tbody></table>
{%- if note %}<p>{{ note }}</p>{% endif %}"""


def html_table(
    frame: pd.DataFrame,
    *,
    caption: str = "",
    note: str = "",
    formats: Mapping[Any, str] | None = None,
    titles: pd.DataFrame | None = None,
    styles: pd.DataFrame | None = None,
    widths: Mapping[Any, str] | None = None,
    html: Collection[Any] = (),
    hide_index: bool = True,
    text_width: int = TEXT_WIDTH,
) -> str:
    """Write a table as HTML that is legible on light and on dark pages.

    Numbers stand on the right, texts on the left. A text that is cut has all of itself in the
    `title`, which a resting mouse shows.

    Args:
        frame: N rows; all of them are written.
        caption: A line above.
        note: A line below, such as how many rows there are besides.
        formats: By name of column, how numbers are written, such as ".4f". Others are integers with
            commas, or floats with as many digits as the column needs, up to four.
        titles: Other texts for the `title` of each cell; of the frame's shape.
        styles: CSS to add to each cell, such as a background; of the frame's shape. Rows then lose
            their own background, which would shine through.
        widths: By name of column, its width in CSS. The table then fills its page, and columns do
            not move when the texts change.
        html: Names of the columns whose cells are HTML already; all others are escaped.
        hide_index: False puts the index in front, as heads of the rows.
        text_width: The width at which texts are cut, in the columns of a terminal.

    Returns:
        The same HTML for the same arguments: no random identifiers.
    """
    columns = _columns(frame, formats or {}, text_width, hide_index, html)
    for column in columns:
        if widths and column.name in widths:
            column.head_style += f";width:{widths[column.name]}"
    for place, column in enumerate(column for column in columns if not column.is_index):
        if titles is not None:
            column.titles = [printable(str(title)) for title in titles.iloc[:, place]]
        if styles is not None:
            column.styles = [
                ";".join(both) for both in zip(column.styles, styles.iloc[:, place], strict=True)
            ]
    layout = "table-layout:fixed;width:100%" if widths else "table-layout:auto"
    return _template().render(
        look=f"{layout};border-collapse:collapse;margin:0;line-height:1.35",
        caption=printable(caption),
        note=printable(note),
        columns=columns,
        rows=len(frame),
        row_look="background-color:transparent" if styles is not None else None,
    )


def text_table(
    frame: pd.DataFrame,
    *,
    caption: str = "",
    note: str = "",
    formats: Mapping[Any, str] | None = None,
    hide_index: bool = True,
    text_width: int = TEXT_WIDTH,
) -> str:
    """Write a table for a terminal; the arguments are those of `html_table`.

    >>> print(text_table(pd.DataFrame({"score": [0.5, 12], "text": ["Lyon.", "巴黎。"]})))
    score  text
      0.5  Lyon.
     12.0  巴黎。
    """
    columns = []
    for column in _columns(frame, formats or {}, text_width, hide_index):
        cells = [column.head, *column.texts]
        widest = max(map(display_width, cells))
        gaps = [" " * (widest - display_width(cell)) for cell in cells]
        pairs = zip(gaps, cells, strict=True)
        columns.append([gap + cell if column.is_right else cell + gap for gap, cell in pairs])
    table = ["  ".join(row).rstrip() for row in zip(*columns, strict=True)]
    return "\n".join(filter(None, [printable(caption), *table, printable(note)]))


@dataclass(frozen=True, repr=False)
class ShownTable:
    """A table for a notebook; see `show_table`."""

    frame: pd.DataFrame
    options: Mapping[str, Any]

    def __repr__(self) -> str:
        """Show a table for a terminal."""
        return text_table(self.frame, **self.options)

    def _repr_html_(self) -> str:
        """Show a table in a notebook."""
        return html_table(self.frame, **self.options, text_width=SENTENCE_WIDTH)


def show_table(
    frame: pd.DataFrame, caption: str = "", *, index: bool | None = None, rows: int = ROWS_SHOWN
) -> ShownTable:
    """Show a DataFrame with its sentences in full: on the left, wrapped, and not cut as by pandas.

    Args:
        frame: Any table.
        caption: A line above.
        index: Whether the index is shown. By default it is where it says something: where it has a
            name, or holds something else than whole numbers.
        rows: How many rows at most; a line below counts the rest.

    Returns:
        What a notebook shows as a table, and a terminal as text.
    """
    if index is None:
        index = any(frame.index.names) or not is_integer_dtype(frame.index)
    more = len(frame) - rows
    note = f"… and {more:,} more rows" if more > 0 else ""
    return ShownTable(frame.head(rows), {"caption": caption, "note": note, "hide_index": not index})


def shorten(text: str, width: int = TEXT_WIDTH) -> str:
    """Put a text on one line of at most `width` columns, cut after a word where there is one.

    >>> shorten("A long\\n  text", 8)
    'A long …'
    >>> shorten("法国的首都是哪一座城市", 8)
    '法国的…'
    """
    # The line is built from a slice: a document may have a million characters.
    line = " ".join(printable(text[: 4 * width]).split())
    whole = len(text) <= 4 * width
    if whole and display_width(line) <= width:
        return line
    kept = _beginning(line, width - 2)
    after_a_word = kept.endswith(" ") or line[len(kept) :][:1] in ("", " ")
    return kept.rstrip() + (" …" if after_a_word else "…")


def shorten_apart(texts: Sequence[str], width: int) -> list[str]:
    """Shorten texts so that different ones stay different, as labels must.

    Of texts that would look alike, the place where they part is shown too.

    >>> shorten_apart(["https://example.org/files/1.txt", "https://example.org/files/2.txt"], 24)
    ['https:…e.org/files/1.txt', 'https:…e.org/files/2.txt']
    """
    labels = [shorten(text, width) for text in texts]
    alike: dict[str, set[str]] = {}
    for label, text in zip(labels, texts, strict=True):
        alike.setdefault(label, set()).add(text)
    for place, (label, text) in enumerate(zip(labels, texts, strict=True)):
        if len(alike[label]) > 1:
            signs = enumerate(zip_longest(*alike[label]))
            same = next(place for place, here in signs if len(set(here)) > 1)
            start = shorten(text, width // 3)
            room, begin = width - display_width(start), max(same - 4, 0)
            while begin and display_width(text[begin - 1 :]) <= room:
                begin -= 1
            labels[place] = start + shorten(text[begin:], room)
    return labels


def wrap(text: str, width: int, lines: int) -> str:
    """Put a text on at most `lines` lines of at most `width` columns each, with the rest left out.

    >>> wrap("The Rhine flows through Basel and Cologne.", 12, 2)
    'The Rhine\\nflows …'
    """
    rest = shorten(text, width * lines)
    done: list[str] = []
    while len(done) < lines - 1 and display_width(rest) > width:
        line = _beginning(rest, width)
        done.append(line.rstrip())
        rest = rest[len(line) :].lstrip()
    return "\n".join([*done, shorten(rest, width)])


def printable(text: str) -> str:
    """Replace each character that a terminal would obey, except line breaks and tabs.

    >>> printable("red: \\x1b[31m")
    'red: �[31m'
    """
    return _UNPRINTABLE.sub(lambda match: match[0] if match[0] in "\t\n\r" else "\ufffd", text)


def display_width(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for each wide (East Asian) sign."""
    return len(text) + sum(unicodedata.east_asian_width(sign) in "WF" for sign in text)


def _beginning(line: str, width: int) -> str:
    """Return as much of a line as fits: whole words, or part of a word that fills half of it."""
    used, end = 0, 0
    while end < len(line) and (used := used + display_width(line[end])) <= width:
        end += 1
    if end == len(line) or line[end] == " ":
        return line[:end]
    space = line.rfind(" ", 0, end)
    if space >= end / 2:
        return line[: space + 1]
    # An accent or a joined sign stays with the sign before it.
    while end > 1 and (
        unicodedata.category(line[end])[0] == "M" or _JOINER in line[end - 1 : end + 1]
    ):
        end -= 1
    return line[:end]


@dataclass
class _Column:
    name: Any
    is_right: bool
    is_index: bool
    is_html: bool
    head: str
    head_title: str | None
    head_style: str
    texts: list[str]
    titles: list[str | None]
    styles: list[str]


def _columns(
    frame: pd.DataFrame,
    formats: Mapping[Any, str],
    text_width: int,
    hide_index: bool,
    html: Collection[Any] = (),
) -> list[_Column]:
    """Return the columns as texts, by position: names may repeat, and need not be texts."""
    levels = [] if hide_index else list(frame.index.names)
    values: list[Any] = [frame.index.get_level_values(level) for level in range(len(levels))]
    values += [frame.iloc[:, place] for place in range(frame.shape[1])]
    columns = []
    for place, (name, cells) in enumerate(zip([*levels, *frame.columns], values, strict=True)):
        is_index = place < len(levels)
        is_html = not is_index and name in html
        is_number = is_numeric_dtype(cells.dtype) and not is_bool_dtype(cells.dtype)
        whole = _written(cells, formats.get(name, "") if is_number else None)
        texts = whole if is_html else [shorten(text, text_width) for text in whole]
        is_right = is_number or (not is_html and all(map(_NUMBER.fullmatch, texts)))
        head = "" if name is None else printable(str(name))
        side = f"text-align:{'right' if is_right else 'left'};padding:2px 8px"
        style = f"{side};vertical-align:top;{_wrapping(texts, is_right)}"
        columns.append(
            _Column(
                name=name,
                is_right=is_right,
                is_index=is_index,
                is_html=is_html,
                head=shorten(head, text_width),
                head_title=None if shorten(head, text_width) == head else head,
                head_style=f"{side};vertical-align:bottom;white-space:normal",
                texts=texts,
                titles=[
                    None if a == b else printable(a) for a, b in zip(whole, texts, strict=True)
                ],
                styles=[style] * len(texts),
            )
        )
    return columns


def _written(cells: Iterable[Any], form: str | None) -> list[str]:
    """Write cells as texts; numbers in a form, which if empty has the digits that they need."""
    known = [None if is_scalar(cell) and pd.isna(cell) else cell for cell in cells]
    if form == "":
        floats = [f"{cell:.{DIGITS}f}".rstrip("0") for cell in known if isinstance(cell, float)]
        form = f",.{max(len(text.partition('.')[2]) for text in floats) or 1}f" if floats else ","
    return [
        MISSING if cell is None else format(cell, form) if form else str(cell) for cell in known
    ]


def _wrapping(texts: list[str], is_right: bool) -> str:
    """Return how a column wraps: never where all is short, and inside of a very long word only."""
    if is_right or max(map(display_width, texts)) <= _ONE_LINE:
        return "white-space:nowrap"
    long = max(len(word) for text in texts for word in text.split()) > _LONGEST_WORD
    # JupyterLab removes `overflow-wrap:anywhere`, which would do without a width.
    broken = ";max-width:36em;overflow-wrap:break-word" if long else ""
    return f"white-space:normal;min-width:10em{broken}"


@cache
def _template() -> Template:
    from jinja2 import Environment  # here: `check_machine` tells where it is missing

    return Environment(autoescape=True).from_string(_TABLE)
