"""Models and data that every party may own."""

import wire.openmp  # noqa: F401
