"""How Sphinx builds these pages: ``make docs``."""

import runpy
from pathlib import Path

_VERSION = Path(__file__).parent.parent / "wire" / "version.py"

project = "MLaaS Range"
release = runpy.run_path(str(_VERSION))["VERSION"]
extensions = ["myst_parser"]
exclude_patterns = ["README.md"]
html_theme = "furo"
html_title = f"{project} {release}"
html_show_copyright = False
html_show_sphinx = False
myst_heading_anchors = 3  # links to a page's headings are checked, and a broken one is an error
nitpicky = True
