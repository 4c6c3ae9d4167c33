"""How Sphinx builds these pages: ``make docs``."""

import tomllib
from pathlib import Path

_PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"

project = "MLaaS Range"
release = tomllib.loads(_PYPROJECT.read_text())["project"]["version"]
extensions = ["myst_parser"]
exclude_patterns = ["README.md"]
html_theme = "furo"
html_title = f"{project} {release}"
html_show_copyright = False
html_show_sphinx = False
myst_heading_anchors = 3  # links to a page's headings are checked, and a broken one is an error
nitpicky = True
