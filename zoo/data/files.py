"""Files in the user's data folder."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from pathlib import Path

from wire import BadInput
from zoo.data.dataset import Missing


def located(name: str, folder: Path | None, files: Iterable[str], advice: str) -> Path:
    """Returns the first of these files found in the data folder or in its subfolder with the data set's name.

    Raises:
        Missing: None of them was found.
    """
    places = [folder / sub for sub in (name, name.replace("_", "-"), ".")] if folder else []
    for place in places:
        for file in files:
            for path in (place / file, place / f"{file}.gz"):
                if path.is_file():
                    return path
    where = f"not in the data folder {folder}" if folder else "no data folder is set"
    raise Missing(f"{name}: {where}; {advice} into the data folder (--data or MLAAS_DATA)")


def content(path: Path) -> bytes:
    """Reads a file, gzipped or not.

    Raises:
        BadInput: The file cannot be read.
    """
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: {error}") from None
