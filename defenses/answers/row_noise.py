"""Randomness that is a function of a secret and a row, so that asking again teaches nothing more.

Noise that is drawn anew for each query averages away when a row is asked again. Deriving it from a keyed hash of
the query follows DAWN (Szyller et al., ACM MM 2021, section 4.2), which derives its decisions so. A row that
differs in the last bit is another row with other noise, so the answers to many neighbours of a row still reveal
their average.

The hash is keyed BLAKE2b over the row's bytes; further digests of that digest give more numbers.
"""

from __future__ import annotations

import json
from hashlib import blake2b

import numpy as np

from wire import Array

_INFINITY = {2: 0x7C00, 4: 0x7F80_0000, 8: 0x7FF0_0000_0000_0000}  # its bits, by the bytes of a float
_NUMBERS = 16  # 32-bit numbers in one BLAKE2b digest


def row_noise(secret: bytes, x: Array, k: int) -> Array:
    """Returns numbers between 0 and 1, ``(n, k)``, each row a function of the secret and the row of ``x`` alone.

    Rows that no model distinguishes get equal numbers: those that differ in the sign of a zero, or in the bits of
    a NaN that marks a missing feature. No number is exactly 0 or 1. Each use needs a secret of its own.

    Args:
        secret: The key, 1 to 64 bytes.
        x: Rows, ``(n, ...)``, of numbers or of text.
        k: How many numbers each row gets.
    """
    rows = _texts(x) if x.dtype.kind in "OU" else canonical(x)
    digests = [blake2b(row, key=secret, person=b"numbers").digest() for row in rows]
    if k > _NUMBERS:
        further = [i.to_bytes(4, "little") for i in range(1, -(-k // _NUMBERS))]
        digests = [d + b"".join(blake2b(i, key=d, person=b"more").digest() for i in further) for d in digests]
    numbers = np.frombuffer(b"".join(digests), "<u4").reshape(len(x), -1)[:, :k]
    return (numbers + 0.5) * 2.0**-32


def canonical(x: Array) -> Array:
    """Returns the bytes of rows of numbers, ``(n, bytes)`` uint8; equal where no model distinguishes rows."""
    # Negative, -0.0 or NaN; the ufunc itself takes half the time of the method for a lone row.
    if x.dtype.kind == "f" and np.maximum.reduce(x.view(f"u{x.itemsize}"), axis=None) > _INFINITY[x.itemsize]:
        x = np.where(np.isnan(x), x.dtype.type(np.nan), x) + x.dtype.type(0)  # -0.0 becomes 0.0
    return np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)


def _texts(x: Array) -> list[bytes]:
    return [json.dumps(row).encode() for row in x.reshape(len(x), -1).tolist()]
