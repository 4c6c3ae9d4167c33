"""Rounds of drand as the public value that draws a victim.

drand's network signs the number of each round, every three seconds, by a key that no member holds alone. So nobody
knows the signature of a later round, and anybody can check it. It needs the extra ``beacons``: py_ecc, which is
slow and not constant in time. Nothing here is secret, and one signature takes seconds.

Source: https://docs.drand.love, the network "quicknet": scheme bls-unchained-g1-rfc9380, of BLS12-381 with
signatures in G1 (Boneh, Lynn, Shacham, "Short Signatures from the Weil Pairing", ASIACRYPT 2001).
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime, timedelta

from wire import BadInput

NAMED = re.compile(r"drand quicknet ([1-9]\d{0,15})")
GENESIS, PERIOD = datetime.fromtimestamp(1692803367, UTC), timedelta(seconds=3)
DOMAIN = b"BLS_SIG_BLS12381G1_XMD:SHA-256_SSWU_RO_NUL_"
SIZE = 48  # bytes of a signature
KEY = (
    "83cf0f2896adee7eb8b5f01fcad3912212c437e0073e911fb90022d3e760183c8c4b450b6a0a6c3ac6a5776a2d106451"
    "0d1fec758c921cc22b0e17e63aaf4bcb5ed66304de9cf809bd274ca73bab4af5a6e9c76a4bc09e76eae8991ef5ece45a"
)


def round_of(beacon: str | None) -> int | None:
    """Returns the round that a beacon such as ``drand quicknet 657413`` names; None for other beacons."""
    named = NAMED.fullmatch(beacon or "")
    return int(named[1]) if named else None


def known_at(number: int) -> datetime:
    """Returns the time at which a round becomes known.

    Raises:
        BadInput: It is too far away.
    """
    try:
        return GENESIS + (number - 1) * PERIOD
    except OverflowError:
        raise BadInput(f"round {number} of drand is too far away") from None


def check(number: int, value: str) -> None:
    """Checks the signature of a round.

    Args:
        number: The round.
        value: The signature, in hexadecimal: ``signature`` of https://api.drand.sh/v2/beacons/quicknet/rounds/N.

    Raises:
        BadInput: It is not the network's signature of this round, or the extra is not installed.
    """
    try:
        from py_ecc.bls.g2_primitives import subgroup_check
        from py_ecc.bls.hash_to_curve import hash_to_G1
        from py_ecc.bls.point_compression import decompress_G1, decompress_G2
        from py_ecc.optimized_bls12_381 import G2, is_inf, pairing
    except ImportError:
        raise BadInput("rounds of drand need the extra: pip install 'mlaas-range[beacons]'") from None
    wrong = BadInput(
        f"the value is not drand's signature of round {number}: expected {2 * SIZE} hexadecimal digits"
    )
    try:
        content = bytes.fromhex(value)
        if len(content) != SIZE:
            raise wrong
        signature = decompress_G1(int.from_bytes(content))
    except ValueError:
        raise wrong from None
    half = len(KEY) // 2
    key = decompress_G2((int(KEY[:half], 16), int(KEY[half:], 16)))
    message = hash_to_G1(hashlib.sha256(number.to_bytes(8)).digest(), DOMAIN, hashlib.sha256)
    if is_inf(signature) or not subgroup_check(signature) or pairing(G2, signature) != pairing(key, message):
        raise wrong
