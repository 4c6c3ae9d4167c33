"""The groups of accounts to which a row belongs, and the rows and requests of a group in a window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from defenses.detectors.detector import Sent
from wire import Array

PAYER = "payment/"


def links(sent: Sent, session: float, span: float) -> list[str]:
    """Returns the names of the groups of a row.

    Args:
        sent: When the row came, and from where.
        session: When its sender began to ask, after its last pause; seconds since the epoch.
        span: Seconds within which accounts that begin to ask do so together.
    """
    origin = sent.origin
    found = [f"wave/{int(session // span)}"]
    if origin.payment:
        found.append(PAYER + origin.payment)
    if origin.prefix:
        found.append(f"prefix/{origin.prefix}")
    if origin.fingerprint and origin.opened:
        found.append(f"cohort/{origin.fingerprint}/{origin.plan}/{origin.opened}")
    return found


class Run(NamedTuple):
    """Consecutive rows of one request.

    Attributes:
        account: Its account.
        sent: When it came, and from where.
        start: Index of the first row.
        stop: Index after the last row.
    """

    account: str
    sent: Sent
    start: int
    stop: int


def runs(accounts: Sequence[str], sent: Sequence[Sent]) -> Iterator[Run]:
    """Divides rows into runs of one request each."""
    start = 0
    for stop in range(1, len(accounts) + 1):
        if stop == len(accounts) or (accounts[stop], sent[stop]) != (accounts[start], sent[start]):
            yield Run(accounts[start], sent[start], start, stop)
            start = stop


@dataclass
class Shares:
    """The rows of a window, as one sum for each account.

    Attributes:
        seen: Number of rows.
        sums: The sum of each account's features, ``(d,)``.
        counts: How many rows each account has in it.
    """

    seen: int = 0
    sums: dict[str, Array] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, account: str, x: Array) -> None:
        """Adds rows ``(n, d)`` of an account."""
        self.sums[account] = x.sum(axis=0) + self.sums.get(account, 0.0)
        self.counts[account] = self.counts.get(account, 0) + len(x)
        self.seen += len(x)

    def drop(self, account: str) -> None:
        """Removes the rows of an account."""
        self.seen -= self.counts.pop(account, 0)
        self.sums.pop(account, None)

    def across(self) -> tuple[float, dict[str, float]]:
        """Returns the mean product of features over pairs of rows of two accounts, and each account's own part.

        An account's own part is the mean over pairs of a row of its own with one of another account. Where more
        than half of all pairs lie within accounts, the mean over pairs is 0, since it says little.
        """
        names = list(self.sums)
        sums, counts = (
            np.stack([self.sums[name] for name in names]),
            np.array([self.counts[name] for name in names]),
        )
        total, n = sums.sum(axis=0), counts.sum()
        to_others = np.einsum("ad,ad->a", sums, total - sums)
        pairs = counts * (n - counts)
        if 2 * pairs.sum() < n * n:
            return 0.0, {}
        own = to_others / np.maximum(pairs, 1)
        return float(to_others.sum() / pairs.sum()), dict(zip(names, own.tolist(), strict=True))


@dataclass
class Queue:
    """The latest requests of a group, oldest first.

    Attributes:
        senders: The account of each.
        times: When each came, in seconds since the epoch.
    """

    senders: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def add(self, account: str, at: float) -> None:
        """Adds a request."""
        self.senders.append(account)
        self.times.append(at)

    def beat(self) -> tuple[float, list[str]]:
        """Returns how irregular the gaps between requests of two accounts are, and who keeps the beat.

        The irregularity is the interquartile range over the median: about 1.6 for independent senders, at most 1
        for a queue whose pauses vary by a share of their length, and inf if fewer than half of the gaps are
        between two accounts. An account keeps the beat if its requests stand a whole gap from their neighbours;
        a foreign request that falls into a gap does not.
        """
        times, senders = np.array(self.times), np.array(self.senders)
        across = senders[1:] != senders[:-1]
        gaps = np.diff(times)[across]
        if 2 * len(gaps) < len(times):
            return np.inf, []
        low, middle, high = np.percentile(gaps, [25, 50, 75]).tolist()
        if middle <= 0:
            return np.inf, []
        around = times[2:] - times[:-2]
        kept = [
            name
            for name in dict.fromkeys(self.senders[1:-1])
            if np.median(around[senders[1:-1] == name]) >= 1.5 * middle
        ]
        return (high - low) / middle, kept
