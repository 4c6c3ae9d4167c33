"""How fast it is."""

import cli  # noqa: F401  # sets OpenMP's wait policy before anything loads torch
