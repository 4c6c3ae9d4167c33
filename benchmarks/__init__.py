"""How fast it is."""

import wire.openmp  # noqa: F401
