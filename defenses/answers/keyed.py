"""Randomness that is a function of a secret and a row, so that asking again teaches nothing more.

Noise that is drawn anew for each query averages away when a row is asked again. Deriving it from a keyed hash
of the query follows DAWN (Szyller et al., ACM MM 2021, section 4.2), which derives its decisions so. A row that
differs in the last bit is another row with other noise: who asks about many neighbours of a row still learns
their average.
"""

from __future__ import annotations

import hashlib

import numpy as np

from wire import Answer, Array

_WORDS = 16  # 32-bit words of one BLAKE2b digest


def keyed_uniform(secret: bytes, x: Array, k: int) -> Array:
    """Returns numbers between 0 and 1, ``(n, k)``, each row a function of the secret and the row of ``x`` alone.

    Equal rows give equal numbers, however their zeros are signed. The numbers are words of BLAKE2b digests keyed
    with the secret; none of them is 0 or 1.

    Args:
        secret: The key, 1 to 64 bytes.
        x: Rows, ``(n, ...)``.
        k: How many numbers each row gets.
    """
    if not len(x):
        return np.empty((0, k))
    rows = np.ascontiguousarray(x + x.dtype.type(0)).reshape(len(x), -1)  # -0.0 becomes 0.0
    digests = []
    for row in rows:
        seed = hashlib.blake2b(row.tobytes(), key=secret).digest()
        for block in range(-(-k // _WORDS)):
            digests.append(hashlib.blake2b(block.to_bytes(4, "little"), key=seed).digest())
    words = np.frombuffer(b"".join(digests), "<u4").reshape(len(rows), -1)[:, :k]
    return (words + 0.5) / 2.0**32


def noised(probs: Array, noise: Array) -> Answer:
    """Adds noise to probabilities, cuts off what is negative and normalises; the label follows.

    Args:
        probs: Probabilities, ``(n, k)``, NaN where withheld.
        noise: What is added to them, ``(n, k)``.
    """
    told = probs + noise
    labels = np.nanargmax(told, axis=1).astype(np.int64)
    told = np.maximum(told, 0)
    lost = np.nansum(told, axis=1) == 0  # everything was cut off: only the label is left to tell
    told[lost, labels[lost]] = 1
    return Answer(labels, (told / np.nansum(told, axis=1, keepdims=True)).astype(np.float32))
