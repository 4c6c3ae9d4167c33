"""Files in the user's data folder."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterable
from pathlib import Path

from wire import BadInput
from wire.files import read_bytes, read_stream
from zoo.data.dataset import Missing

TABLE = 8 * 2**20  # most bytes of a file of text, unpacked: of those that we know, Adult's is the largest, of 6 MB
IMAGES = 64 * 2**20  # most bytes of a file of images or of an archive, unpacked: MNIST's has 47 MB


def located(name: str, folder: Path | None, files: Iterable[str], advice: str) -> Path:
    """Returns the first of these files found in the data folder or in its subfolder with the data set's name.

    Raises:
        Missing: None of them was found.
    """
    places = [folder / sub for sub in (name, name.replace("_", "-"), ".")] if folder else []
    for place in places:
        for file in files:
            for path in (place / file, place / f"{file}.gz", place / f"{file}.xz"):
                if path.is_file():
                    return path
    where = f"not in the data folder {folder}" if folder else "no data folder is set"
    raise Missing(f"{name}: {where}; {advice} into the data folder (--data or MLAAS_DATA)")


def content(path: Path, most: int) -> bytes:
    """Reads a file, packed by gzip or xz or not, of at most ``most`` bytes when unpacked.

    Raises:
        BadInput: The file cannot be read, or is larger.
    """
    try:
        if path.suffix not in (".gz", ".tgz", ".xz"):
            return read_bytes(path, most)
        with lzma.open(path) if path.suffix == ".xz" else gzip.open(path) as file:
            return read_stream(file, path, most)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise BadInput(f"{path}: {error}") from None
