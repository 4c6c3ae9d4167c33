"""The rate-limit headers: ``RateLimit-Policy``, ``RateLimit`` and ``Retry-After``.

The first two follow draft-ietf-httpapi-ratelimit-headers-10, but count rows; the draft's default unit is requests,
and its registry has none for rows. The server writes and the client reads them with this module.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from wire.errors import Refused


class Policy(NamedTuple):
    """A limit, as ``RateLimit-Policy`` describes it.

    Attributes:
        name: Its name in headers.
        quota: Number of rows allowed in a window.
        window: Length of the window in seconds; None if the window varies or never ends.
    """

    name: str
    quota: int
    window: int | None = None

    def __str__(self) -> str:
        return f'"{self.name}";q={self.quota}' + ("" if self.window is None else f";w={self.window}")


class Remaining(NamedTuple):
    """The state of a limit, as ``RateLimit`` describes it.

    Attributes:
        rows: Number of rows that would pass now.
        reset: Seconds until more rows would pass; None if the limit never refills.
    """

    rows: int
    reset: int | None = None


class Limits(NamedTuple):
    """The limits that applied to a request, and their state after it, in the same order."""

    policies: tuple[Policy, ...] = ()
    remaining: tuple[Remaining, ...] = ()


class Refusal(NamedTuple):
    """The content of a refusal's headers.

    Attributes:
        retry_after: Seconds after which the same request may pass; None if not given.
        left: Number of rows that would pass now; None if not given.
    """

    retry_after: float | None
    left: int | None


def answer_headers(limits: Limits) -> list[tuple[bytes, bytes]]:
    """Returns the headers of an answer; none if no limit applies."""
    policies, remaining = limits
    if not policies:
        return []
    states = [
        f'"{policy[0]}";r={rows}' if reset is None else f'"{policy[0]}";r={rows};t={reset}'
        for policy, (rows, reset) in zip(policies, remaining, strict=True)
    ]
    return [(b"ratelimit-policy", _policies(policies)), (b"ratelimit", ", ".join(states).encode())]


@lru_cache(1024)  # every answer has this header, and a server has few distinct ones
def _policies(policies: tuple[Policy, ...]) -> bytes:
    return ", ".join(map(str, policies)).encode()


def refusal_headers(refused: Refused) -> dict[str, str]:
    """Returns the headers of a refusal."""
    headers = {}
    if refused.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after)))
    if refused.policy is not None:
        wait = "" if refused.retry_after is None else f";t={math.ceil(refused.retry_after)}"
        headers["RateLimit-Policy"] = refused.policy
        headers["RateLimit"] = f"{refused.policy.partition(';')[0]};r={refused.left or 0}{wait}"
    return headers


def policy_name(refused: Refused) -> str | None:
    """Returns the name of the limit that refused; None if none did."""
    return None if refused.policy is None else refused.policy.partition(";")[0].strip('"')


def read_refusal(headers: Mapping[str, str]) -> Refusal:
    """Reads the headers of a refusal; ``headers`` must ignore the case of names."""
    wait = headers.get("Retry-After", "")
    left = [int(rows) for rows in re.findall(r";\s*r=(\d+)", headers.get("RateLimit", ""))]
    return Refusal(float(wait) if re.fullmatch(r"\d+(\.\d+)?", wait) else None, min(left, default=None))
