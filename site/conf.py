"""Sphinx's settings for the site; `scripts/build_site.py` stages what it reads."""

import json
import os
import posixpath
import re
import sys
from pathlib import Path

from sphinx.search.zh import SearchChinese

sys.path.insert(0, os.environ["HELPERS"])

language = os.environ["SITE_LANGUAGE"]
is_chinese = language == "zh_CN"
project = "用 vLLM 打分与重排" if is_chinese else "Scoring and reranking with vLLM"
html_title = project
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
templates_path = ["templates"]
exclude_patterns = ["files/**", "extra/**"]

# The stored outputs are shown; nothing runs.
nb_execution_mode = "off"
nb_merge_streams = True
if is_chinese:
    nb_code_prompt_show, nb_code_prompt_hide = "显示代码", "隐藏代码"
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
# JSON with "..." in it, output of a shell, and the notebooks' magics are no plain code.
suppress_warnings = ["misc.highlighting_failure", "mystnb.unknown_mime_type"]

# The reference is made from the docstrings alone: what the helpers import need not be there.
autodoc_mock_imports = [
    "IPython", "bm25s", "filelock", "huggingface_hub", "ipywidgets", "ir_measures", "jinja2",
    "matplotlib", "numpy", "pandas", "platformdirs", "prometheus_client", "psutil", "pyarrow",
    "ray", "requests", "safetensors", "scipy", "sklearn", "Stemmer", "torch", "tqdm",
    "traitlets", "urllib3",
]  # fmt: skip
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_use_rtype = False
# Types of other packages have no page here.
nitpick_ignore_regex = [(r"py:.*", r".*")]

html_theme = "sphinx_book_theme"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_favicon = "static/favicon.svg"
html_context = {"default_mode": "auto"}  # the reader's system chooses light or dark
html_extra_path = ["extra"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_last_updated_fmt = None
html_use_index = not is_chinese  # the docstrings are in the English edition
html_theme_options = {
    "article_header_end": ["language.html", "article-header-buttons.html"],
    "footer_content_items": [],
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "show_navbar_depth": 1,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

# The docstrings are plain text with `code`: what reStructuredText would read otherwise is escaped.
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
STAR = re.compile(r"(?<=\w)_\*(?=[\s,)])|(?<![\w*])\*_(?=\w)")


def plain(app, what, name, obj, options, lines):
    """Bring a docstring into reStructuredText."""
    escaped = [STAR.sub(lambda m: re.sub(r"(.)", r"\\\1", m[0]), line) for line in lines]
    lines[:] = [CODE.sub(r"``\1``", line) for line in escaped]


# The language switch: each page leads to its twin, or else to the other edition's first page.
TWINS = {*json.loads(Path(__file__).with_name("twins.json").read_text("utf-8")), "search"}


def add_twin(app, pagename, templatename, context, doctree):
    """Tell the templates where the page in the other language is."""
    place = f"{pagename if pagename in TWINS else 'index'}.html"
    here = posixpath.dirname(f"zh/{pagename}" if is_chinese else pagename) or "."
    context["twin"] = posixpath.relpath(place if is_chinese else f"zh/{place}", here)
    context["twin_language"] = ("en", "English") if is_chinese else ("zh-CN", "中文")


# Chinese writes no spaces between words: the search looks for pairs of neighbouring characters.
class SearchPairs(SearchChinese):
    """Split Chinese into pairs of characters, in the index and in what a reader looks for."""

    language_name = "English"  # that of the stemmer, which Sphinx would look for as Chinese
    js_splitter_code = """
var splitQuery = (query) =>
  (query.match(/[\\u3400-\\u9fff]+|[^\\u3400-\\u9fff\\W]+/gu) || []).flatMap((run) =>
    /[\\u3400-\\u9fff]/.test(run) && run.length > 2
      ? [...run].slice(1).map((sign, place) => run[place] + sign)
      : [run]);
"""

    def split(self, input):
        """Return the words of a text."""
        words = super().split(input)
        for run in re.findall("[\u3400-\u9fff]+", input):
            words += [run[place : place + 2] for place in range(max(len(run) - 1, 1))]
        return words

    def word_filter(self, stemmed_word):
        """Tell whether the index keeps a word."""
        return len(stemmed_word) > 1 or stemmed_word > "\u3400"


def setup(app):
    """Register what is above; before napoleon, which writes markup of its own."""
    app.connect("autodoc-process-docstring", plain, priority=400)
    app.connect("html-page-context", add_twin)
    app.add_search_language(SearchPairs)
