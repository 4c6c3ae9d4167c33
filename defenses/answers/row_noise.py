"""Pseudo-random numbers that depend only on a secret and a row, so that repeating a query reveals nothing new.

Fresh noise for each query averages out when a row is sent repeatedly. As DAWN does for its decisions (Szyller et
al., ACM MM 2021, section 4.2), this module derives noise from a keyed hash of the row, rounded to a grid
(:mod:`defenses.answers.grid`). A row with another nearest point of the grid gets different noise, so the answers
to many neighbours of a row still reveal their average.

The hash is that of AES-GCM (GMAC with a constant nonce), whose 16 bytes are hashed again by keyed BLAKE2b. The
first is universal and fast, the second hides it: two rows collide with probability below 2^-100, and nobody sees
the first, which would give its key away. RFC 8452 builds its tag so. BLAKE2b over the whole row takes four times
as long for a picture.
"""

from __future__ import annotations

import json
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from defenses.answers.grid import ANY, Grid
from wire import Array

_INFINITY = {
    2: 0x7C00,
    4: 0x7F80_0000,
    8: 0x7FF0_0000_0000_0000,
}  # its bit pattern, by the size of a float in bytes
_NUMBERS = 16  # 32-bit numbers in one BLAKE2b digest
_NONCE = bytes(12)


def row_noise(secret: bytes, x: Array, k: int, grid: Grid = ANY) -> Array:
    """Returns numbers strictly between 0 and 1, ``(n, k)``, that depend only on the secret and the row of ``x``.

    Rows with the same nearest point of the grid get equal numbers. Each use needs its own secret.

    Args:
        secret: The key, 1 to 64 bytes.
        x: Rows, ``(n, ...)``, of numbers or text.
        k: Number of values per row.
        grid: The grid; a site has that of its model's rows.
    """
    rows = _texts(x) if x.dtype.kind in "OU" else grid.points(x)
    short = _universal(secret).encrypt
    digests = [blake2b(short(_NONCE, b"", row), key=secret, person=b"numbers").digest() for row in rows]
    if k > _NUMBERS:
        further = [i.to_bytes(4, "little") for i in range(1, -(-k // _NUMBERS))]
        digests = [d + b"".join(blake2b(i, key=d, person=b"more").digest() for i in further) for d in digests]
    numbers = np.frombuffer(b"".join(digests), "<u4").reshape(len(x), -1)[:, :k]
    return (numbers + 0.5) * 2.0**-32


@lru_cache
def _universal(secret: bytes) -> AESGCM:
    return AESGCM(blake2b(key=secret, person=b"universal", digest_size=32).digest())


def canonical(x: Array) -> Array:
    """Returns the bytes of numeric rows, ``(n, bytes)`` uint8; equal for rows that no model distinguishes."""
    # Tests for negative values, -0.0 and NaN; for a single row, the ufunc takes half the time of the method.
    if x.dtype.kind == "f" and np.maximum.reduce(x.view(f"u{x.itemsize}"), axis=None) > _INFINITY[x.itemsize]:
        x = np.where(np.isnan(x), x.dtype.type(np.nan), x) + x.dtype.type(0)  # -0.0 becomes 0.0
    return np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)


def _texts(x: Array) -> list[bytes]:
    return [json.dumps(row).encode() for row in x.reshape(len(x), -1).tolist()]
