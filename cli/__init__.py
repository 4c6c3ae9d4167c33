"""The command line: code that all parties' commands share, and ``mlaas-range``, which dispatches to them."""

import os
import sys

# Same as wire.openmp, but without importing numpy, so that Ctrl-C cannot interrupt a slow import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""opacus installs a package ``benchmarks`` of its own, which a checkout's would come after."""
