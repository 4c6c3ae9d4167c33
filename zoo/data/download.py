"""torchvision's downloads, with a time-out and an error of one line."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from zoo.cache import once
from zoo.data.dataset import Missing

TIMEOUT = 10.0  # seconds without a byte


def download(name: str, cache: Path, fetch: Callable[[Path], object], advice: str) -> Path:
    """Returns the folder into which a data set was downloaded, now or earlier.

    Args:
        name: The data set.
        cache: Folder of everything that is kept.
        fetch: Downloads into the folder that is passed to it.
        advice: How else to get the data set.

    Raises:
        Missing: It could not be downloaded.
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
