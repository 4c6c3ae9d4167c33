"""The command line: code that all parties' commands share, and ``mlaas-range``, which dispatches to them."""

import os

# Same as wire.openmp, but without importing numpy, so that Ctrl-C cannot interrupt a slow import.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
