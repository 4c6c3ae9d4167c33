"""The command line: what all parties' commands share, and ``mlaas-range``, which finds them by name."""

import wire.openmp  # noqa: F401
