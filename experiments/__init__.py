"""Where the parties meet: experiments, metrics and reports."""

import wire.openmp  # noqa: F401
