"""Pseudo-random numbers that depend only on a secret and a row, so that repeating a query reveals nothing new.

Fresh noise for each query averages out when a row is sent repeatedly. As DAWN does for its decisions (Szyller et
al., ACM MM 2021, section 4.2), this module derives noise from a keyed hash of the row, rounded to a grid
(:mod:`defenses.answers.grid`). A row with another nearest point of the grid gets different noise, so the answers
to many neighbours of a row still reveal their average.

The hash is keyed BLAKE2b over the bytes of that point; hashing the digest again gives more numbers.
"""

from __future__ import annotations

import json
from hashlib import blake2b

import numpy as np

from defenses.answers.grid import ANY, Grid
from wire import Array

_NUMBERS = 16  # 32-bit numbers in one BLAKE2b digest


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
    keyed = blake2b(key=secret, person=b"numbers")  # to take the key in again for each row would cost a fifth more
    digests = []
    for row in rows:
        hashed = keyed.copy()
        hashed.update(row)
        digests.append(hashed.digest())
    if k > _NUMBERS:
        further = [i.to_bytes(4, "little") for i in range(1, -(-k // _NUMBERS))]
        digests = [d + b"".join(blake2b(i, key=d, person=b"more").digest() for i in further) for d in digests]
    numbers = np.frombuffer(b"".join(digests), "<u4").reshape(len(x), -1)[:, :k]
    return (numbers + 0.5) * 2.0**-32


def _texts(x: Array) -> list[bytes]:
    return [json.dumps(row).encode() for row in x.reshape(len(x), -1).tolist()]
