"""Reads files that somebody else may have made: nothing is unpacked before its size is known and bounded."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from pathlib import Path
from tokenize import TokenError
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.lib import format as npy

from wire.errors import BadInput
from wire.types import Array

if TYPE_CHECKING:
    from _typeshed import SupportsRead

UNPACKED = 64 * 2**20  # bytes that any archive may unpack to
RATIO = 20  # a larger one may unpack to this many times its own size
MEMBERS = 64
TEXT = 4 * 2**20  # most bytes of a file of JSON or TOML


def most_unpacked(packed: int) -> int:
    """Returns how many bytes a file of ``packed`` bytes may unpack to."""
    return max(UNPACKED, RATIO * packed)


def read_bytes(path: Path, most: int) -> bytes:
    """Reads a file.

    Args:
        path: The file.
        most: The largest acceptable size, in bytes.

    Raises:
        OSError: The file cannot be read.
        BadInput: The file is larger.
    """
    with path.open("rb") as file:
        return read_stream(file, path, most)


def read_stream(file: SupportsRead[bytes], path: Path, most: int) -> bytes:
    """Reads a stream, which may be the unpacked content of the file ``path``; see :func:`read_bytes`."""
    content = io.BytesIO()
    while chunk := file.read(min(2**20, most + 1 - content.tell())):  # read(n) would allocate n bytes at once
        content.write(chunk)
    if content.tell() > most:
        raise BadInput(f"{path}: holds more than {most:,} bytes")
    return content.getvalue()


def read_arrays(path: Path, kind: str) -> dict[str, Array]:
    """Reads the arrays of an .npz file, each by its name.

    The arrays may be compressed. Each has numbers, booleans or strings, never objects.

    Args:
        path: The file.
        kind: What the file should hold, for errors.

    Raises:
        BadInput: The file cannot be read, is not an .npz file, or would unpack to more than
            :func:`most_unpacked` allows.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            unpacked, most = sum(member.file_size for member in members), most_unpacked(path.stat().st_size)
            if unpacked > most:
                raise BadInput(
                    f"{path}: would unpack to {unpacked:,} bytes, but a file of its size may to {most:,}; "
                    "save it uncompressed (numpy.savez)"
                )
            if len(members) > MEMBERS:
                raise BadInput(f"{path}: has {len(members)} arrays; expected at most {MEMBERS}")
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except BadInput:
        raise
    except _FAULTS as error:
        # numpy's own message is about pickles.
        why = getattr(error, "strerror", None) or "damaged, or in another format"
        raise BadInput(f"{path}: not a valid .npz file of {kind} ({why})") from None


_FAULTS = (
    *(OSError, ValueError, TypeError, EOFError, RuntimeError, SyntaxError, TokenError, OverflowError),
    *(zipfile.BadZipFile, zlib.error),
)


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("zipfile unpacks other methods without a bound")
    with archive.open(member) as file:
        shape, dtype = array_header(file)
        if file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
            raise ValueError("the header's shape does not match the size of the array")
        file.seek(0)
        return np.asarray(npy.read_array(file, allow_pickle=False))


def array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Reads the header of an .npy file, up to the first byte of the array.

    Returns:
        The array's shape and its dtype, which has a size and no objects.

    Raises:
        ValueError, SyntaxError, TokenError: The header is invalid.
    """
    version = npy.read_magic(file)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in read:
        raise ValueError(f"the file has version {version} of the format")
    shape, _, dtype = read[version](file)
    if dtype.hasobject or not dtype.itemsize or any(size < 0 for size in shape):
        raise ValueError(f"the array is {shape} {dtype}")
    return shape, dtype
