"""Experiments, in which all parties meet: the demo, tests of published claims, studies, metrics and the report."""

import cli  # noqa: F401  # sets OpenMP's wait policy before anything loads torch
