"""Benchmarks: the speed of the server and of its detectors."""

import cli  # noqa: F401  # sets OpenMP's wait policy before anything loads torch
