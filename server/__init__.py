"""The prediction API: victims behind defences, over HTTP."""

import os
from typing import TYPE_CHECKING, Any

import cli  # noqa: F401  # sets OpenMP's wait policy before anything loads torch

if TYPE_CHECKING:
    from server.inprocess import serve

__all__ = ["serve"]

# ONNX Runtime reports its use from a thread that starts when it is imported; its own switch comes too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> Any:
    """Imports :func:`~server.inprocess.serve`, and torch with it, when it is used."""
    if name == "serve":
        from server.inprocess import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
