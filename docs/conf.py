"""Configuration of the documentation."""

from importlib.metadata import version as version_of

project = "draper"
author = "the draper developers"
copyright = "2026, the draper developers"
release = version = version_of("draper")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "draper"
napoleon_google_docstring = False
autodoc_typehints = "description"
autodoc_member_order = "bysource"
nitpicky = False
