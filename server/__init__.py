"""The prediction API: victims behind defences, over HTTP."""

import os

import cli  # noqa: F401  # sets OpenMP's wait policy before anything loads torch

# ONNX Runtime tells its makers that it runs, from a thread that it begins when it is imported; its own function
# that is said to end this comes too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
