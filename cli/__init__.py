"""The command line: what all parties' commands share, and ``mlaas-range``, which finds them by name."""

import os

# What wire.openmp does, here without importing numpy, so that an interrupt meets nothing half imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
