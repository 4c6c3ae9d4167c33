"""Where the parties meet: experiments, metrics and reports."""

import cli  # noqa: F401  # sets OpenMP's wait policy before anything loads torch
