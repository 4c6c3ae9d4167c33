"""Randomness that is a function of a secret and a row, so that asking again teaches nothing more.

Noise that is drawn anew for each query averages away when a row is asked again. Deriving it from a keyed hash
of the query follows DAWN (Szyller et al., ACM MM 2021, section 4.2), which derives its decisions so. A row that
differs in the last bit is another row with other noise: who asks about many neighbours of a row still learns
their average.

BLAKE2b over a whole row would cost more than all the rest of an answer, so it sees the row's fingerprint alone:
an almost universal hash, then a PRF (Carter, Wegman, "New Hash Functions and Their Use in Authentication and Set
Equality", JCSS 1981; as in UMAC, Black et al., CRYPTO 1999). The fingerprint is eight sums ``sum(m[i] * w[i])``
over the 32-bit words w of the row, in integers, each with 12-bit multipliers m of its own. Two rows that differ
in word i share a sum for at most one value of its ``m[i]``, whatever the other multipliers are, so they share all
eight with probability at most 2^-96. Until two of q rows do, the numbers are independent draws and tell nothing of
m. So who chooses q rows, each after the answers to those before, finds two that share their numbers with
probability at most q^2 / 2^97 (6e-12 for 10^9 rows), beside what BLAKE2b and SHAKE-256, which draws the
multipliers, would give away. Texts, which are short, go through BLAKE2b whole.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache, reduce

import numpy as np

from wire import Array

_SUMS = 8
_BITS = 12  # of a multiplier
_WORDS = 1024  # summed at a time: 2^10 products of 32 and 12 signed bits stay within a float64's 53 bits
_ROWS = 64  # multiplied at a time: no BLAS wakes threads for so little
_INFINITY = {2: 0x7C00, 4: 0x7F80_0000, 8: 0x7FF0_0000_0000_0000}  # its bits, by the bytes of a float
_NUMBERS = 16  # 32-bit numbers in one BLAKE2b digest


def row_noise(secret: bytes, x: Array, k: int) -> Array:
    """Returns numbers between 0 and 1, ``(n, k)``, each row a function of the secret and the row of ``x`` alone.

    Rows that no model tells apart get equal numbers: those that differ in the sign of a zero, or in which NaN says
    that a feature is missing. None of the numbers is 0 or 1. Each use of the numbers needs a secret of its own.

    Args:
        secret: The key, 1 to 64 bytes.
        x: Rows, ``(n, ...)``, of numbers or of text.
        k: How many numbers each row gets.
    """
    key = hashlib.blake2b(key=secret, person=b"numbers").digest()[:32]
    starts = [key + i.to_bytes(4, "little") for i in range(-(-k // _NUMBERS))]
    rows = _texts(x) if x.dtype.kind in "OU" else _fingerprints(secret, x)
    digests = [hashlib.blake2b(start + row).digest() for row in rows for start in starts]  # a single block each
    numbers = np.frombuffer(b"".join(digests), "<u4").reshape(len(x), -1)[:, :k]
    return (numbers + 0.5) * 2.0**-32


def canonical(x: Array) -> Array:
    """Returns the bytes of rows of numbers, ``(n, bytes)`` uint8; rows that no model tells apart have the same."""
    # Negative, -0.0 or NaN; the ufunc itself takes half the time of the method for a lone row.
    if x.dtype.kind == "f" and np.maximum.reduce(x.view(f"u{x.itemsize}"), axis=None) > _INFINITY[x.itemsize]:
        x = np.where(np.isnan(x), x.dtype.type(np.nan), x) + x.dtype.type(0)  # -0.0 becomes 0.0
    return np.ascontiguousarray(x).reshape(len(x), -1).view(np.uint8)


def _texts(x: Array) -> list[bytes]:
    return [json.dumps(row).encode() for row in x.reshape(len(x), -1).tolist()]


def _fingerprints(secret: bytes, x: Array) -> list[bytes]:
    """Returns 64 bytes for each row of numbers."""
    octets = canonical(x)
    if octets.shape[1] % 4:
        octets = np.pad(octets, ((0, 0), (0, -octets.shape[1] % 4)))
    words = octets.view("<i4")
    multipliers = _multipliers(secret, words.shape[1])
    sums = np.concatenate([_sums(words[i : i + _ROWS], multipliers) for i in range(0, len(words), _ROWS)])
    return sums.view(f"V{8 * _SUMS}").ravel().tolist()  # bytes, one object for each row


def _sums(words: Array, multipliers: Array) -> Array:
    """Returns ``words @ multipliers`` in int64, exactly; the products are float64, which BLAS is fast at."""
    return reduce(
        np.add,
        [
            (words[:, i : i + _WORDS].astype(np.float64) @ multipliers[i : i + _WORDS]).astype(np.int64)
            for i in range(0, len(multipliers), _WORDS)
        ],
    )


@lru_cache(256)
def _multipliers(secret: bytes, words: int) -> Array:
    seed = hashlib.blake2b(key=secret, person=b"multipliers").digest()
    drawn = np.frombuffer(hashlib.shake_256(seed).digest(2 * words * _SUMS), "<i2") >> (16 - _BITS)
    return drawn.reshape(_SUMS, words).T.astype(np.float64)
