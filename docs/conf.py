"""The site: Sphinx with MyST, numpydoc and the PyData theme. ``make docs`` builds it, without a network."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from affuse import __version__

project = "affuse"
author = "The affuse authors"
copyright = author
version = release = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "affuse_pages"]
exclude_patterns = ["_build", "_ext"]

# Markdown
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
suppress_warnings = ["misc.highlighting_failure"]  # what a terminal prints is not always a program

# Docstrings: numpydoc sections; `name` in them is code, as in every docstring of scikit-learn.
default_role = "literal"
autodoc_typehints = "none"  # the sections say the types, with shapes and units
autodoc_member_order = "bysource"
autosummary_generate = False  # affuse_pages writes one page a module
autosummary_ignore_module_all = False
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False
numpydoc_validation_checks: set[str] = set()  # tests/test_docstrings.py checks them

nitpicky = True

# The site
html_theme = "pydata_sphinx_theme"
html_title = f"affuse {version}"
html_static_path = ["_static"]
html_css_files = ["affuse.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {
    page: []
    for page in (
        *("index", "start", "architecture", "faq", "law", "intended_use", "scenarios"),
        *("contributing", "security", "changelog"),
    )
}  # they have no pages below them
html_theme_options = {
    "logo": {"text": "affuse"},
    "header_links_before_dropdown": 6,
    "show_nav_level": 1,
    "show_prev_next": True,
    "navbar_align": "left",
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "secondary_sidebar_items": ["page-toc"],
}
