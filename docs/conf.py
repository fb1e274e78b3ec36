"""Sphinx: pages by hand beside pages made from the registries and the command line."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from medseg import __version__

project = "medseg"
author = "The medseg developers"
copyright = "2026, The medseg developers"
release = version = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "rooms",
    "mathml",
]
exclude_patterns = ["_build", "_ext"]
# quotes and dots, but never the two dashes of an option
smartquotes_action = "qe"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Shape"]

html_math_renderer = "mathml"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["medseg.css"]
html_title = f"medseg {__version__}"
