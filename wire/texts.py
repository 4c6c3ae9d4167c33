"""Texts as arrays of str objects, and as raw bytes (Open Inference Protocol v2, BYTES)."""

from __future__ import annotations

import numpy as np

from wire.errors import Malformed
from wire.types import Array


def as_texts(strings: list[str]) -> Array:
    """Returns texts as an array, ``(n,)`` of str objects."""
    texts = np.empty(len(strings), dtype=object)
    texts[:] = strings
    return texts


def raw_texts(texts: Array) -> bytes:
    """Writes texts, each behind its length in bytes, a little-endian number of 4 bytes."""
    encoded = [text.encode() for text in texts.reshape(-1)]
    return b"".join(part for text in encoded for part in (len(text).to_bytes(4, "little"), text))


def read_raw_texts(name: str, raw: bytes, count: int) -> Array:
    """Reads the texts of a tensor, as :func:`raw_texts` writes them.

    Raises:
        Malformed: They are not so many texts in UTF-8 that fill the bytes.
    """
    found, at = [], 0
    for index in range(count):
        start = at + 4
        at = start + int.from_bytes(raw[at:start], "little")
        if start > len(raw) or at > len(raw):
            raise Malformed(f'tensor "{name}": string {index} ends at byte {max(start, at)} of {len(raw)}')
        try:
            found.append(raw[start:at].decode())
        except UnicodeDecodeError as error:
            raise Malformed(f'tensor "{name}": string {index} is not valid UTF-8: {error.reason}') from None
    if at != len(raw):
        raise Malformed(
            f'tensor "{name}": its {count} strings take {at} bytes, but binary_data_size is {len(raw)}'
        )
    return as_texts(found)
