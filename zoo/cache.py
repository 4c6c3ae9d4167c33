"""Folders that are made once."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path


def once(folder: Path, make: Callable[[Path], object]) -> Path:
    """Returns a folder, filled first if it is not there yet; it is there whole or not at all.

    Args:
        folder: The folder.
        make: Fills the empty folder that it is given; runs again after it was interrupted.
    """
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".partial-") as partial:
            made = Path(partial) / folder.name
            made.mkdir()
            make(made)
            try:
                made.rename(folder)
            except OSError:
                if not folder.exists():  # else another process was faster
                    raise
    return folder
