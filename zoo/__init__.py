"""Models and data for all parties."""

import wire.openmp  # noqa: F401
