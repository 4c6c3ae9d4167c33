"""The request log of the campaign study: each account's rows, times and origins.

Rows are indices into one table of images, of which all features are computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from defenses.detectors.detector import Alarm, Sent
from wire import Array, Labels, Origin

DAY = 86_400.0
START = 1_900_000_000.0 // DAY * DAY  # of the log, seconds since the epoch
KINDS = ("own", "scanner", "one class", "films", "resellers", "bursts", "students")
LINKS = ("one payer", "proxies", "nothing", "apart")
_ROWS = 250  # of a customer
_FRAMES = 30  # of a film
_RESOLD, _CLASS = 5, 20  # accounts of a reseller, and of a class
_STEP = 10  # rows after which alarms are looked for
_CLIENTS = 5  # kinds of software that customers use


class Stream(NamedTuple):
    """The rows of one account.

    Attributes:
        kind: The kind of customer; ``theft`` for a thief's account.
        rows: Indices of its rows, ``(n,)``.
        times: When each came, ``(n,)``, in seconds since the epoch.
        origin: Where all came from.
    """

    kind: str
    rows: Array
    times: Array
    origin: Origin

    @property
    def sent(self) -> list[Sent]:
        """When and from where each row came."""
        return [Sent(at, self.origin) for at in self.times.tolist()]


def customers(
    rng: np.random.Generator, images: Mapping[str, Array], labels: Labels, accounts: int, name: str
) -> list[Stream]:
    """Draws the streams of harmless accounts of each kind, over one day.

    Args:
        rng: Source of all randomness.
        images: Indices of the images ``own`` and ``scanner``, and of the ``films``, frame after frame.
        labels: The true classes of the own images, in their order.
        accounts: Accounts of each kind.
        name: Begins the names of networks and payers, which no other draw may share.
    """
    made, films = [], images["films"].reshape(-1, _FRAMES)
    for kind in KINDS:
        for i in range(accounts):
            begin = START + rng.uniform(0, 0.8 * DAY)
            origin = _stranger(rng, f"{name}-{kind}-{i}")
            if kind == "films":
                rows = films[rng.permutation(len(films))[: _ROWS // _FRAMES]].reshape(-1)
                starts = np.repeat(rng.exponential(600, _ROWS // _FRAMES).cumsum(), _FRAMES)
                times = (
                    starts + np.tile(0.5 * np.arange(_FRAMES), _ROWS // _FRAMES) + rng.uniform(0, 0.05, len(rows))
                )
                made.append(Stream(kind, rows, begin + np.sort(times), origin))
                continue
            if kind == "bursts":
                rows = rng.choice(rng.choice(images["own"], 60, replace=False), _ROWS)
                times = np.repeat(rng.exponential(3000, 5).cumsum(), 50) + np.tile(
                    np.arange(5).repeat(10) * 0.2, 5
                )
                made.append(Stream(kind, rows, begin + times, origin))
                continue
            if kind == "students":  # of one class, which begins together
                lesson = np.random.default_rng([i // _CLASS, *name.encode()])
                begin = START + lesson.uniform(0, 0.8 * DAY) + rng.uniform(0, 300)
                shared = _stranger(lesson, f"{name}-class-{i // _CLASS}")
                origin = shared._replace(payment=origin.payment)
            if kind == "resellers":
                firm = np.random.default_rng([7, i // _RESOLD, *name.encode()])
                origin = _stranger(firm, f"{name}-reseller-{i // _RESOLD}")
            count = _ROWS // 10 if kind == "students" else _ROWS
            rows = rng.choice(images["scanner" if kind == "scanner" else "own"], count, replace=False)
            if kind == "one class":
                one = images["own"][labels == i % (labels.max() + 1)]
                rows = rng.choice(one, count, replace=len(one) < count)
            if kind == "resellers":
                scanned = rng.random(count) < 0.3
                rows[scanned] = rng.choice(images["scanner"], int(scanned.sum()), replace=False)
            times = rng.exponential(30 if kind == "students" else 8, count).cumsum()
            times[count // 2 :] += 7200 * rng.random() * (kind != "students")  # comes back later
            made.append(Stream(kind, rows, begin + times, origin))
    return made


def theft(
    rng: np.random.Generator, rows: Array, dummies: Array, share: float, accounts: int, links: str, most: int
) -> tuple[list[Stream], Array, Array]:
    """Spreads a theft over accounts that take turns, one row a second, with a pause after every 200 rows.

    Args:
        rng: Source of all randomness.
        rows: Indices of the theft's rows, in order.
        dummies: Indices of harmless rows to send along.
        share: Share of dummies among all rows.
        accounts: Number of accounts.
        links: What the accounts share: ``one payer``, with his network, client and hour of opening; with
            ``proxies``, the client and the hour; ``nothing``, and pauses are of exponential length; ``apart``,
            nothing either, and the next account begins a quarter of an hour after the last one.
        most: Rows to send, at most.

    Returns:
        The streams; the account of each row in order, ``(n,)``; and whether it is the theft's, ``(n,)``.
    """
    n = min(most, round(len(rows) / (1 - share)))
    real = rng.permutation(n) < round(n * (1 - share))
    sent = np.empty(n, np.int64)
    sent[real] = rows[: real.sum()]
    sent[~real] = rng.choice(dummies, n - int(real.sum()))
    regular = links in ("one payer", "proxies")
    gaps = rng.uniform(0.5, 1.5, n) if regular else rng.exponential(1, n)
    gaps[::200] += 60
    times = START + rng.uniform(0, 0.5 * DAY) + gaps.cumsum()
    of = np.arange(n) % accounts
    if links == "apart":
        of = np.arange(n) * accounts // n
        times = START + 900.0 * of + rng.exponential(1, n).cumsum()
    streams = []
    for account in range(accounts):
        origin = _stranger(rng, f"thief-{account}")
        if regular:
            origin = origin._replace(fingerprint="the thief's", plan="free", opened=int(START // 3600 * 3600))
        if links == "one payer":
            origin = origin._replace(payment="the thief's", prefix="the thief's")
        mine = of == account
        streams.append(Stream("theft", sent[mine], times[mine], origin))
    return streams, of, real


def during(streams: list[Stream], begin: float, end: float) -> Iterator[Stream]:
    """Yields the parts of streams between two times."""
    for stream in streams:
        inside = (stream.times >= begin) & (stream.times <= end)
        if inside.any():
            yield stream._replace(rows=stream.rows[inside], times=stream.times[inside])


def places(alarms: Mapping[int, Alarm], of: Array) -> dict[int, int]:
    """Returns the row of a theft, counted from 1 over all accounts, from which each accused account is refused.

    Args:
        alarms: The alarm of each accused account.
        of: The account of each row, ``(n,)``.
    """
    return {account: int(np.flatnonzero(of == account)[alarm.row - 1]) + 1 for account, alarm in alarms.items()}


def places_together(detector: Any, stream: Sequence[Any], accounts: int) -> tuple[dict[int, int], int]:
    """Returns the same for a detector of linked accounts, to ten rows, and how many others are accused.

    Args:
        detector: The detector. It also accuses accounts that have sent their last row.
        stream: The features of all rows, the names of their accounts, which are numbers, and when they were sent.
        accounts: Accounts with smaller numbers are the theft's.
    """
    rows, names, sent = stream
    state, found, count = detector.begin(), dict[str, int](), 0
    for at in range(0, len(rows), _STEP):
        part = slice(at, at + _STEP)
        count += sum(int(name) < accounts for name in names[part])
        state = detector.observe(state, rows[part], np.zeros(len(names[part])), names[part], sent[part])
        for name in state.alarms.keys() - found.keys():
            found[name] = count
    thieves = {int(name): max(1, place) for name, place in found.items() if int(name) < accounts}
    return thieves, len(found) - len(thieves)


def outcome(refused: Mapping[int, int], of: Array, real: Array, accounts: int) -> dict[str, Any]:
    """Says what alarms do to a theft.

    Args:
        refused: By account, the row from which it is refused (:func:`places`).
        of: The account of each row, ``(n,)``.
        real: Whether it is a row of the theft, ``(n,)``.
        accounts: Number of accounts.

    Returns:
        ``rows`` of all accounts until the first alarm, ``real`` ones among them, the share of ``accounts`` that
        are accused, and ``told``: the theft's rows that are answered if accused accounts are refused.
    """
    if not refused:
        return {"rows": None, "real": None, "accounts": 0.0, "told": int(real.sum())}
    first, number = min(refused.values()), np.arange(len(of)) + 1
    told = np.ones(len(of), bool)
    for account, place in refused.items():
        told[(of == account) & (number >= place)] = False
    return {
        "rows": first,
        "real": int(real[:first].sum()),
        "accounts": round(len(refused) / accounts, 4),
        "told": int((real & told).sum()),
    }


def by_kind(streams: Sequence[Stream], accused: set[int]) -> dict[str, list[int]]:
    """Returns by kind how many accounts are accused, of how many."""
    return {
        kind: [sum(streams[i].kind == kind for i in accused), sum(stream.kind == kind for stream in streams)]
        for kind in KINDS
    }


def _stranger(rng: np.random.Generator, name: str) -> Origin:
    """Returns the origin of an account that shares only its software with some others."""
    opened = int((START - rng.uniform(0, 365 * DAY)) // 3600 * 3600)
    return Origin(f"net {name}", f"client {rng.integers(_CLIENTS)}", "free", opened, f"payer {name}")
