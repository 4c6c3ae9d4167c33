"""The command line: code that all parties' commands share, and ``mlaas-range``, which dispatches to them."""

import os
import sys
from pathlib import Path

# Same as wire.openmp, but without importing numpy, so that Ctrl-C cannot interrupt a slow import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# opacus installs a package named benchmarks, too, which would hide that of an editable install.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
