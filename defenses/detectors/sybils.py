"""Sybils: accounts that ask about rows which lie too close to one another's extract the model together.

Ours, of known parts. A thief who splits synthetic rows over many keys escapes detectors that watch each key alone
(Zhang, Chen, Wagner, "SEAT: Similarity Encoder by Adversarial Training for Detecting Model Extraction Attack
Queries", AISec 2021, counts how many keys that takes). But a row that was made by a step from another one lies
nearer to it than harmless rows lie to one another, whoever asked about it; that all accounts' rows are compared is
from Li et al., "Blacklight: Scalable Defense for Neural Networks against Query-Based Black-Box Attacks", USENIX
Security 2022. How near harmless rows lie differs from place to place, so it is told beside a reference: harmless
rows that nobody asks about. A row is a *hit* if its nearest row among the last ``window`` ones, of anybody, is
another account's, and is nearer than ``ratio`` times its nearest row of the reference. (A ratio of two distances
in place of a distance is from Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004,
section 7.1.)

At most a ``share`` of harmless rows are hits, so hits are evidence, and each account has its own: the logarithm of
the likelihood ratio of its hits and misses, for each of some greater shares, since the row where that was least
(Page, "Continuous Inspection Schemes", Biometrika 1954). So a harmless past and dummy rows do not hide a theft,
they only make it take more rows. By Ville's inequality, harmless rows bring the evidence that starts at one of
them to ``log(1 / rate)`` with a probability of at most ``rate``, however long it is looked at.

An exact copy of an earlier row is no evidence, since many ask about the same public image. A row whose nearest one
is the account's own is a miss, so a sequence of frames is no chain of hits.

What it cannot see:

- natural rows of the reference's own distribution, which lie like other accounts' (Knockoff Nets with such a
  pool). Of natural rows of another distribution it sees that several accounts have a source that the reference
  does not know. That need not be theft: harmless accounts that share such a source, a camera say, are accused
  alike;
- who splits so that rows that were made from one another stay with one account, or who has but one: that is for
  detectors of single accounts, or for ``own``;
- keys with so few rows, or so many dummies among them, that each brings too little evidence of its own: evidence
  is not added up over accounts, and five hits in a row are the least (at the default share and rate);
- who waits until ``window`` other rows have been asked about between a row and those that are made from it, or
  whose steps are as long as the way to the nearest harmless row;
- who was first: a harmless account that asks about what a thief's earlier rows were made from has hits too. Copies
  of public images that were scaled or compressed otherwise are near, and not exact.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from defenses.detectors.calibration import Calibration, Streams, check_rate, tried
from defenses.microbatch import MicroBatch
from defenses.monitoring.nearest import Grown, Kept, Rows, pixels
from defenses.monitoring.snapshots import read, written
from wire import Array, BadInput, Card, Labels
from zoo.data import Pool

_SCHEMA = 1  # of a state's bytes
_TAIL = 4  # bytes of a noted row that tell its distance to the reference
_STEP = 256  # rows that are taken at a time
_SHARES = 5  # shares of hits that the evidence is for
_BESIDE = 200  # bytes of an account beside its arrays
_MOST = 1024  # rows that are compared with the reference at a time, if they come in parts
_PLAIN = 2**28  # bytes of rows times rows of the reference that are multiplied in less time than a thread takes


class Alarm(NamedTuple):
    """What was found of an account.

    Attributes:
        row: The row after which it was, counted from 1 over all that the account sent.
        statistic: The evidence after that row, a natural logarithm.
    """

    row: int
    statistic: float


@dataclass(frozen=True)
class Sybils:
    """Tests after each row whether too many of an account's rows lie too close to other accounts'.

    Rows are compared in bytes. Those of a reference between 0 and 1 are pixels; else each feature is told in 255
    steps from its least to its greatest value in the reference, and values beyond count as these. So rows that
    differ by less than a step may be copies.

    Each row is compared with ``window`` others and with the reference, which takes as long as one int8 product
    with all of these; the victim's own pass may take less. The log of all accounts keeps the bytes of each row and
    its distance to the reference, and each worker folds all of it.

    Attributes:
        reference: File of harmless rows (npz), none of which anybody asks about.
        ratio: A hit is nearer than so many times the distance to the reference; from :meth:`calibrated`.
        share: Greatest share of harmless rows that are hits.
        rate: Unjust alarms to be expected for each harmless row that is asked about, at most.
        window: Most recent rows, of all accounts, that a row is compared with.
        own: Whether rows near the account's own are hits too. Then a theft by one key is seen, and one that is
            split so that what was made from a row stays with its key; but who asks about a film is accused too.
    """

    blank: ClassVar[Mapping[str, Any]] = {"ratio": 0.0}

    reference: Path
    ratio: float
    share: float = 0.005
    rate: float = 1e-7
    window: int = 10_000
    own: bool = False
    _references: list[Any] = field(default_factory=list, init=False, repr=False, compare=False)
    _gains: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise BadInput(f"sybils: ratio must lie between 0 and 1, not {self.ratio:g}")
        if not (0 < self.share < 0.5 and 0 < self.rate < 1):
            raise BadInput(
                f"sybils: share must lie between 0 and 0.5 and rate between 0 and 1, not {self.share:g} and "
                f"{self.rate:g}"
            )
        if self.window < 1:
            raise BadInput(f"sybils: window must be at least 1, not {self.window}")
        shares = self.share ** (np.arange(1, _SHARES + 1) / (_SHARES + 1))
        gains = np.stack([np.log((1 - shares) / (1 - self.share)), np.log(shares / self.share)])
        object.__setattr__(self, "_gains", gains)  # of a miss and of a hit

    @property
    def enough(self) -> float:
        """The evidence that accuses: of several shares each may be wrong."""
        return math.log(_SHARES / self.rate)

    async def prepare(self, card: Card) -> None:
        """Reads the reference.

        Raises:
            BadInput: There is none, or its rows are not the victim's.
        """
        found = await self._reference()
        if found.shape != tuple(card.input_shape):
            raise BadInput(
                f"sybils: {self.reference} has rows of shape {found.shape}; expected {tuple(card.input_shape)}"
            )

    async def features(self, x: Array, labels: Labels) -> Array:
        """Returns rows in bytes, ``(n, d + 4)`` uint8: the last four are a squared distance to the reference."""
        return await (await self._reference()).note(x)

    async def _reference(self) -> _Reference:
        if not self._references:
            self._references[:] = [await asyncio.to_thread(_Reference, self.reference)]
        return self._references[0]  # type: ignore[no-any-return]

    def begin(self, saved: bytes | None = None) -> State:
        """Returns the state of no rows, or one that was saved (see :meth:`State.from_bytes`)."""
        return State() if saved is None else State.from_bytes(saved)

    def observe(self, state: State, rows: Array, labels: Labels, accounts: Sequence[str]) -> State:
        """Takes more rows; the state is the same however they are split into calls.

        Args:
            state: What is remembered of the rows before; it is changed and returned.
            rows: What :meth:`note` made of them.
            labels: The victim's labels, which do not matter.
            accounts: Who asked about each.

        Raises:
            ValueError: The rows do not fit those before. Nothing was changed.
        """
        for of, found in self.nearest(state, rows, accounts):
            self.weigh(state, of, found)
        return state

    def weigh(self, state: State, accounts: Array, found: Nearest) -> None:
        """Adds rows to the evidence of their accounts, whose numbers are given, ``(n,)``."""
        hits = (found.ratios < self.ratio) & (self.own | (found.owners != accounts))
        for account, hit, copy in zip(accounts.tolist(), hits.tolist(), found.copies.tolist(), strict=True):
            state.weigh(account, None if copy else self._gains[int(hit)], self.enough)

    def forget(self, state: State, account: str) -> State:
        """Lets an account's evidence and the number of its rows start anew; its rows stay beside others'."""
        state.clear(account)
        return state

    def nearest(self, state: State, rows: Array, accounts: Sequence[str]) -> Iterator[tuple[Array, Nearest]]:
        """Lets the window take rows; yields in parts their accounts' numbers, and what was nearest to each.

        It takes what :meth:`observe` does, and weighs nothing yet.
        """
        if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] <= _TAIL:
            raise ValueError(f"sybils: rows of shape {rows.shape} and {rows.dtype} have no distance behind them")
        if len(accounts) != len(rows):
            raise ValueError(f"sybils: {len(rows)} rows of {len(accounts)} accounts")
        if state.width not in (None, rows.shape[1]):
            raise ValueError(f"sybils: rows of {rows.shape[1]} bytes after rows of {state.width}")
        state.width = rows.shape[1]
        for i in range(0, len(rows), _STEP):
            of = np.array([state.number(name) for name in accounts[i : i + _STEP]], np.int32)
            yield of, state.take(rows[i : i + _STEP], of, self.window)

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Sybils, Calibration]:
        """Returns it with the greatest ratio that makes hits of ``share`` of harmless rows.

        Args:
            chosen: Of each harmless account the rows as noted, ``(n, ...)``, and the victim's labels. The accounts
                ask in turn; copies do not count. Where there are less than twice ``window`` rows, only a smaller
                share may be hits in the smaller window that they fill, in proportion.
            held_out: Accounts with other rows.
            fpr: Greatest share of the former that may be accused.

        Raises:
            BadInput: They are too few, or more of them are accused.
        """
        check_rate(fpr)
        chosen, held_out = list(chosen), list(held_out)
        rows, accounts = in_turn(chosen)
        first = sorted({row.tobytes(): i for i, row in reversed(list(enumerate(rows)))}.values())
        rows, accounts = rows[first], [accounts[i] for i in first]
        filled = min(self.window, len(rows) // 2)
        ratios = [
            np.where(self.own | (found.owners != of), found.ratios, np.inf)
            for of, found in self.nearest(State(), rows, accounts)
        ]
        later = np.sort(np.concatenate(ratios)[filled:])
        allowed = math.floor(self.share * filled / self.window * len(later))
        if not allowed:
            raise BadInput(
                f"sybils: {len(rows)} different harmless rows cannot show that a share of {self.share:g} are hits "
                f"in a window of {self.window}; expected more rows, or a smaller window"
            )
        to = replace(self, ratio=float(min(1.0, later[allowed])))
        accused = len(to.accused(chosen))
        if accused > fpr * len(chosen):
            raise BadInput(f"sybils: {accused} of {len(chosen)} harmless accounts are accused with {to}")
        return to, tried(to.ratio, len(to.accused(held_out)), len(held_out))

    def accused(self, streams: Streams) -> Mapping[str, Alarm]:
        """Returns who is accused among accounts that ask in turn, by their numbers (see :meth:`calibrated`)."""
        rows, accounts = in_turn(streams)
        return self.observe(State(), rows, np.zeros(len(rows), np.int64), accounts).alarms


def in_turn(streams: Streams) -> tuple[Array, list[str]]:
    """Returns the rows of accounts that ask in turn, one row at a time, and their numbers as names."""
    given = [rows for rows, _ in streams]
    turns = sorted((i, number) for number, rows in enumerate(given) for i in range(len(rows)))
    if not turns:
        raise BadInput("sybils: there are no harmless rows")
    return np.stack([given[number][i] for i, number in turns]), [str(number) for _, number in turns]


class _Reference:
    """Harmless rows to search in.

    Attributes:
        shape: Shape of one row.
        note: Returns what is kept of rows ``(n, ...)``; those that come at once share a product.
    """

    def __init__(self, file: Path) -> None:
        """Reads them from a file of rows.

        Raises:
            BadInput: There is no such file, or it holds texts or no rows.
        """
        pool = Pool.load(file)
        if pool.dtype == "BYTES" or pool.missing or not len(pool):
            raise BadInput(f"sybils: {file} has {len(pool)} rows; expected some, of numbers, none of them missing")
        self.note = MicroBatch[Array, Array](self._note, size=len, most=_MOST)
        self.shape, x = pool.input_shape, pool.x.reshape(len(pool), -1)
        self._low, span = np.float32(0), np.float32(1)
        if pool.bounds != (0.0, 1.0):
            self._low, span = x.min(axis=0), np.ptp(x, axis=0)
        self._scale = np.float32(255) / np.where(span > 0, span, np.float32(1))
        rows = Rows(pixels(self._octets(x))[1])
        self._kept = Kept(rows)
        self._kept.append(rows)

    async def _note(self, parts: Sequence[Array]) -> list[Array]:
        octets = [self._octets(part.reshape(len(part), -1)) for part in parts]
        rows = Rows(pixels(np.concatenate(octets))[1])
        if rows.values.size * len(self._kept) < _PLAIN:
            squares = self._kept.nearest(rows)
        else:
            squares = await asyncio.to_thread(self._kept.nearest, rows)
        told = squares.astype("<f4")[:, None].view(np.uint8)
        ends = np.cumsum([len(part) for part in octets])[:-1]
        return [np.concatenate(part, axis=1) for part in zip(octets, np.split(told, ends), strict=True)]

    def _octets(self, x: Array) -> Array:
        values = x / np.float32(255) if x.dtype == np.uint8 else x
        octets: Array = np.rint((values - self._low) * self._scale).clip(0, 255).astype(np.uint8)
        return octets


class Nearest(NamedTuple):
    """What is nearest to each of some rows among earlier ones, ``(n,)`` each.

    Attributes:
        ratios: The distance over that to the reference; inf where nothing is earlier.
        copies: Whether it is a copy.
        owners: Number of the account that asked about it.
    """

    ratios: Array
    copies: Array
    owners: Array


class State:
    """What is remembered of all accounts of a model; :meth:`Sybils.observe` changes it.

    Attributes:
        width: Bytes of a noted row, None before the first.
        alarms: The first alarm of each account, by its name.
    """

    def __init__(self) -> None:
        """Knows nobody."""
        self.width: int | None = None
        self.alarms: dict[str, Alarm] = {}
        self._kept: Kept | None = None  # the rows in the window, and whose they are
        self._owners = Grown(np.empty(0, np.int32))
        self._numbers: dict[str, int] = {}  # of the accounts, in the order in which they came
        self._names: list[str] = []
        self._counts: list[int] = []  # of rows that each asked about
        self._evidence = Grown(np.empty((0, _SHARES)))

    @property
    def rows(self) -> int:
        """How many rows it keeps."""
        return len(self._owners)

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        kept = 0 if self._kept is None else self._kept.nbytes
        return kept + self._owners.nbytes + self._evidence.nbytes + _BESIDE * len(self._names)

    def number(self, account: str) -> int:
        """Returns an account's number, a new one if it is new."""
        number = self._numbers.setdefault(account, len(self._names))
        if number == len(self._names):
            self._names.append(account)
            self._counts.append(0)
            self._evidence.append(np.zeros((1, _SHARES)))
        return number

    def take(self, noted: Array, of: Array, window: int) -> Nearest:
        """Takes noted rows of accounts with some numbers; tells what is nearest among ``window`` before each."""
        rows = Rows(pixels(noted[:, :-_TAIL])[1])
        if self._kept is None:
            self._kept = Kept(rows)
        end = len(self._kept) + np.arange(len(rows))
        self._kept.append(rows)
        self._owners.append(of)
        squares, at = self._kept.closest(rows, np.maximum(end - window, 0), end)
        reference = np.ascontiguousarray(noted[:, -_TAIL:]).view("<f4")[:, 0].astype(np.float64)
        ratios = np.sqrt(np.divide(squares, reference, out=np.full(len(rows), np.inf), where=reference > 0))
        nearest = Nearest(ratios, squares == 0, self._owners.rows[at])
        for part in (self._kept, self._owners):
            part.drop(max(0, len(part) - window))
        return nearest

    def weigh(self, account: int, gain: Array | None, enough: float) -> None:
        """Adds a row to an account's evidence; None if it is no evidence."""
        self._counts[account] += 1
        if gain is None:
            return
        evidence = self._evidence.rows[account]
        np.maximum(evidence + gain, 0, out=evidence)
        name = self._names[account]
        if (most := float(evidence.max())) >= enough and name not in self.alarms:
            self.alarms[name] = Alarm(self._counts[account], most)

    def clear(self, account: str) -> None:
        """Lets an account's evidence start anew."""
        self.alarms.pop(account, None)
        if account in self._numbers:
            number = self._numbers[account]
            self._counts[number] = 0
            self._evidence.rows[number] = 0

    def to_bytes(self) -> bytes:
        """Returns all of it; equal states give equal bytes."""
        head = {
            "schema": _SCHEMA,
            "width": self.width,
            "alarms": self.alarms,
            "accounts": [self._names, self._counts],
        }
        arrays = {"evidence": self._evidence.rows}
        if self._kept is not None:
            arrays |= {"rows": self._kept.values, "owners": self._owners.rows}
        return written(head, arrays)

    @staticmethod
    def from_bytes(saved: bytes) -> State:
        """Reads what :meth:`to_bytes` wrote.

        Raises:
            ValueError: It is broken, or of another schema.
        """
        state = State()
        with read(saved, _SCHEMA, "sybils: this is no state of accounts") as (head, arrays):
            state.width = head["width"]
            state.alarms = {name: Alarm(*alarm) for name, alarm in head["alarms"].items()}
            state._names, state._counts = head["accounts"]
            state._numbers = {name: number for number, name in enumerate(state._names)}
            state._evidence.append(arrays["evidence"])
            if "rows" in arrays:
                rows = Rows(arrays["rows"])
                state._kept = Kept(rows)
                state._kept.append(rows)
                state._owners.append(arrays["owners"])
        return state
