"""Bars and grids of scores have labels that can be read, and show what they are given."""

import matplotlib
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from matplotlib import font_manager
from matplotlib import pyplot as plt
from matplotlib.text import Text

from helpers import InputError
from helpers.client import ScoreResult
from helpers.tables import display_width
from helpers.views import HeatTable, bar_chart, heat_map
from helpers.views.charts import _east_asian_fonts, drawing

PRICES = ["Costs between $500 and $700_now", "What is $$?", r"In TeX, $\frac$ starts a fraction"]


@pytest.fixture(autouse=True)
def no_drawing_is_left():
    yield
    plt.close("all")


def result_of(
    *scores: float, queries: tuple[str, ...] | None = None, documents: list[str] | None = None
) -> ScoreResult:
    """Scores of made-up documents: a drawing needs no server."""
    documents = documents or [f"document {i}" for i in range(len(scores))]
    queries = queries or ("a query",) * len(scores)
    return ScoreResult(queries, tuple(documents), scores, "model", 1)


def labels_of(axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def test_the_best_document_is_drawn_on_top():
    axes = bar_chart(result_of(0.2, 0.9, 0.5))
    assert labels_of(axes) == ["document 1", "document 2", "document 0"]
    assert axes.yaxis_inverted()


def test_axes_and_bars_are_labelled():
    axes = bar_chart(result_of(0.25, 0.75))
    assert axes.get_xlabel() == "score"
    assert axes.figure.get_suptitle() == "a query"
    assert [text.get_text() for text in axes.texts] == ["0.75", "0.25"]


def test_bars_leave_no_empty_room_above_and_below():
    assert bar_chart(result_of(*[0.5] * 20)).get_ylim() == (19.5, -0.5)


def test_logits_are_not_squeezed_between_zero_and_one():
    low, high = bar_chart(result_of(-4.0, 6.0)).get_xlim()
    assert low <= -4 and high >= 6


def test_a_long_list_is_cut_to_the_best_twenty():
    axes = bar_chart(result_of(*(i / 100 for i in range(30))))
    assert len(axes.patches) == 20
    assert axes.patches[0].get_width() == 0.29


def test_more_than_one_query_is_refused_by_name():
    with pytest.raises(InputError, match="this result has 2"):
        bar_chart(result_of(0.1, 0.2, queries=("one", "two")))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: bar_chart(result_of(0.1, 0.2, 0.3, documents=PRICES), PRICES[2]),
        lambda: heat_map(pd.DataFrame(np.eye(3), index=PRICES, columns=PRICES), PRICES[2]),
    ],
    ids=["bars", "grid"],
)
def test_texts_with_dollar_signs_are_texts_and_not_formulas(draw):
    with matplotlib.rc_context({"text.usetex": True}):
        figure = draw().figure
    figure.canvas.draw()
    shown = {text.get_text().replace("\n", " ") for text in figure.findobj(Text)}
    assert set(PRICES) <= shown
    for text in figure.findobj(Text):
        assert not ("$" in text.get_text() and (text.get_parse_math() or text.get_usetex()))


@pytest.mark.filterwarnings("ignore:No font on this machine")
@pytest.mark.parametrize(
    "documents",
    [
        ["东京是日本的首都、" * 8 + "人口很多。", "法国的首都是巴黎、" * 8 + "位于塞纳河畔。"],
        ["法国的首都是巴黎、" * 8 + "甲", "法国的首都是巴黎、" * 8 + "乙"],
        [f"https://example.org/a/very/long/address/{'x' * 40}/{page}" for page in (1, 2)],
    ],
)
def test_labels_without_spaces_tell_the_bars_apart(documents):
    for axes in (
        bar_chart(result_of(0.2, 0.1, documents=documents)),
        heat_map(pd.DataFrame([[0.1], [0.2]], index=documents)),
    ):
        one, two = labels_of(axes)
        assert one != two
        assert "…" in one and display_width(one) > 40


class Font:
    """Stand for a font: machines that run these tests need not have one for Chinese."""

    family_name = "A Chinese Font"

    def __init__(self, signs: str) -> None:
        self.signs = signs

    def get_char_index(self, code: int) -> int:
        return int(chr(code) in self.signs)


@pytest.fixture
def fonts(monkeypatch):
    """Let this machine have just the fonts that a test puts here, by the names of their files."""
    installed: dict[str, Font] = {}
    added: list[str] = []

    def get_font(path):
        if path not in installed:
            raise RuntimeError("no font")
        return installed[path]

    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: ["broken", *installed])
    monkeypatch.setattr(font_manager, "get_font", get_font)
    monkeypatch.setattr(font_manager.fontManager, "addfont", added.append)
    _east_asian_fonts.cache_clear()
    yield installed, added
    _east_asian_fonts.cache_clear()


CHINESE = result_of(0.5, documents=["法国的首都是巴黎"])


def test_chinese_signs_are_drawn_by_a_font_that_has_them(fonts, recwarn):
    installed, added = fonts
    installed |= {"latin": Font("ab"), "chinese": Font("中の")}
    (label,) = bar_chart(CHINESE).get_yticklabels()
    assert label.get_fontfamily() == ["sans-serif", "A Chinese Font"]
    assert added == ["chinese"]
    assert not recwarn


def test_where_no_font_has_them_a_warning_says_so_once(fonts, recwarn):
    fonts[0]["latin"] = Font("ab")
    for _ in range(2):
        (label,) = bar_chart(CHINESE).get_yticklabels()
    assert label.get_fontfamily() == ["sans-serif"]
    assert [str(warning.message)[:27] for warning in recwarn] == ["No font on this machine has"]
    assert recwarn[0].filename == __file__


def test_other_texts_need_no_font_of_their_own(fonts):
    (label,) = bar_chart(result_of(0.5)).get_yticklabels()
    assert label.get_fontfamily() == ["sans-serif"]
    assert _east_asian_fonts.cache_info().currsize == 0


def test_a_drawing_looks_the_same_whatever_style_its_notebook_uses():
    with plt.style.context("dark_background"):
        figure = bar_chart(result_of(0.5)).figure
        assert figure.get_facecolor() == (1, 1, 1, 1)
        assert figure.findobj(Text)[0].get_color() == "black"
        assert plt.rcParams["text.color"] == "white"


def test_the_first_drawing_of_a_notebook_leaves_its_backend_switched_on():
    @drawing
    def draws_first():
        plt.ion()  # as the backend of a notebook does when it is loaded
        return plt.subplots()[1]

    with matplotlib.rc_context():
        plt.ioff()
        draws_first()
        assert plt.isinteractive()


GRID = pd.DataFrame(
    [[0.9, 0.1, 0.2], [0.3, 0.8, 0.4]],
    index=["capital of France?", "currency <of> Japan?"],
    columns=[
        "Paris.",
        "The yen.",
        "A document that is much too long for the label of a column " * 3,
    ],
)


def test_a_heat_map_labels_its_rows_columns_and_cells():
    axes = heat_map(GRID, "A title")
    assert labels_of(axes) == list(GRID.index)
    columns = [label.get_text() for label in axes.get_xticklabels()]
    assert columns[:2] == ["Paris.", "The yen."]
    assert columns[2].endswith(" …") and columns[2].count("\n") == 1
    values = [text.get_text() for text in axes.texts]
    assert values == ["0.90", "0.10", "0.20", "0.30", "0.80", "0.40"]
    assert axes.figure.get_suptitle() == "A title"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("document", "query")


def test_the_largest_heat_map_still_fits_a_page():
    largest = heat_map(pd.DataFrame(np.zeros((30, 15))))
    assert largest.figure.get_figwidth() < 11.5


def test_the_colours_of_scores_always_span_zero_to_one():
    assert heat_map(GRID).images[0].get_clim() == (0, 1)
    low, high = heat_map(GRID * 10 - 5).images[0].get_clim()
    assert (low, high) == (-4, 4)


@pytest.mark.parametrize("draw", [heat_map, HeatTable])
@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pd.DataFrame(), "0 rows and 0 columns"),
        (pd.DataFrame(np.zeros((31, 2))), r"31 rows and 2 columns.*frame.iloc\[:30, :15\]"),
        (pd.DataFrame({"document": ["text"]}), "needs numbers only"),
        (pd.DataFrame({"a": [1.0, np.nan]}), "has gaps"),
    ],
)
def test_a_grid_that_cannot_be_read_is_refused(draw, frame, words):
    with pytest.raises(InputError, match=words):
        draw(frame)
