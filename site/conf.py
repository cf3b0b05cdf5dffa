"""Sphinx's settings for the site; `scripts/build_site.py` stages what it reads."""

import os
import re
import sys

sys.path.insert(0, os.environ["HELPERS"])

project = "Scoring and reranking with vLLM"
html_title = project
language = "en"
author = "the contributors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["files/**", "extra/**"]

# The stored outputs are shown; nothing runs.
nb_execution_mode = "off"
nb_merge_streams = True
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
html_extra_path = ["extra"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
html_last_updated_fmt = None
html_theme_options = {
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


def setup(app):
    """Register what is above; before napoleon, which writes markup of its own."""
    app.connect("autodoc-process-docstring", plain, priority=400)
