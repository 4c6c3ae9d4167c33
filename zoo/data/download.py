"""Downloads by torchvision, with a time-out and a one-line error."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from zoo.cache import once
from zoo.data.dataset import Missing

TIMEOUT = 10.0  # seconds without a byte


def download(name: str, cache: Path, fetch: Callable[[Path], object], advice: str) -> Path:
    """Returns the folder of a downloaded data set, after downloading it if necessary.

    Args:
        name: The data set.
        cache: The cache folder.
        fetch: Downloads into the folder passed to it.
        advice: Another way to get the data set, for the error message.

    Raises:
        Missing: The download failed.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT)  # torchvision sets none
    try:
        return once(cache / "datasets" / f"{name}-download", fetch)
    except (OSError, RuntimeError) as error:
        fault = " ".join(str(error).split())
        raise Missing(f"{name}: not in the data folder, and the download failed ({fault}); {advice}") from None
    finally:
        socket.setdefaulttimeout(before)
