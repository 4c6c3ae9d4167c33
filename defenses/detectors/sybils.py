"""Sybils: flags accounts whose queries lie too close to one another's, as those of a divided attack do.

The detector is ours, made of known parts. An attacker who divides synthetic queries over many keys escapes
detectors that watch each key by itself (Zhang, Chen, Wagner, "SEAT: Similarity Encoder by Adversarial Training
for Detecting Model Extraction Attack Queries", AISec 2021, counts how many keys that takes). But a query that was
made by a step from another one lies nearer to it than harmless queries lie to one another, whoever sent it. That
the queries of all accounts are compared is from Li et al., "Blacklight: Scalable Defense for Neural Networks
against Query-Based Black-Box Attacks", USENIX Security 2022.

How near harmless rows lie to one another differs from place to place, so distances are taken relative to the
distance to a reference: harmless rows that nobody asks about. A row is a *hit* if the nearest of the last
``window`` rows of all accounts belongs to another account and is nearer than ``ratio`` times the nearest row of
the reference. (The ratio of two distances in place of a distance is from Lowe, "Distinctive Image Features from
Scale-Invariant Keypoints", IJCV 2004, section 7.1.) An exact copy of an earlier row is neither hit nor miss, since
many ask about the same public image.

At most a ``share`` of harmless rows are hits. An account's *evidence* is the logarithm of the likelihood ratio of
its hits and misses, for each of some greater shares, since the row where it was least (Page, "Continuous
Inspection Schemes", Biometrika 1954). So harmless queries before and between those of an attack delay the alarm
and do not prevent it. By Ville's inequality, the evidence of harmless rows from any one row on reaches
``log(1 / rate)`` with a probability of at most ``rate``.

What the detector misses, or mistakes:

- natural queries of the reference's own distribution. Natural queries of another distribution only show that
  several accounts share a source that the reference does not know, harmless or not;
- attacks that keep rows made from one another with one account (but see ``own``);
- accounts with so few queries, or so many dummies among them, that none has enough evidence of its own: at the
  default share and rate that takes five hits in a row at least;
- attacks that wait for ``window`` other rows between a row and those made from it, or whose steps are as long as
  the distance to the nearest harmless row;
- which account was first: one that innocently asks about the rows from which an attack began has hits too.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from defenses.companions import Companions
from defenses.detectors.calibration import Calibration, Streams, check_rate, in_turn, tried
from defenses.detectors.detector import Alarm, Features
from defenses.monitoring.recent import Nearest, Recent
from defenses.monitoring.reference import Reference
from wire import Array, BadInput, Card, Labels

_SHARES = 5  # shares of hits that there is evidence for
_BESIDE = 350  # bytes of an account's evidence


@dataclass
class Account:
    """What is remembered of an account.

    Attributes:
        rows: How many rows it sent.
        evidence: The evidence for each share of hits.
    """

    rows: int = 0
    evidence: list[float] = field(default_factory=lambda: [0.0] * _SHARES)


@dataclass
class State:
    """What is remembered of all accounts of a model.

    Attributes:
        recent: The rows that new ones are compared with.
        accounts: The accounts by name.
        alarms: The first alarm of each account that has one.
    """

    recent: Recent = field(default_factory=Recent)
    accounts: dict[str, Account] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return len(self.recent.owners)

    @property
    def nbytes(self) -> int:
        """The memory that it takes."""
        return self.recent.nbytes + _BESIDE * len(self.accounts)


@dataclass(frozen=True)
class Sybils:
    """Tests after each row whether too many of an account's rows lie too close to other accounts'.

    Rows are compared as bytes (:class:`~defenses.monitoring.reference.Reference`), so rows that differ by less
    than a step may be copies. Each row is multiplied with ``window`` rows and all rows of the reference, in int8;
    the victim's own pass may take less time. The log of all accounts holds the bytes of each row and its distance
    to the reference.

    Attributes:
        reference: File of harmless rows (npz), none of which anybody asks about.
        ratio: A hit is nearer than this times the distance to the reference; :meth:`calibrated` chooses it.
        share: Greatest share of harmless rows that are hits.
        rate: Unjust alarms to be expected for each harmless row, at most.
        window: How many of the latest rows, of all accounts, a row is compared with.
        own: Whether rows near the account's own count as hits too. Then an attack by one key is seen, and one
            that keeps rows made from one another with one key; but the frames of a film accuse their sender.
    """

    uncalibrated: ClassVar[Mapping[str, Any]] = {"ratio": 0.0}

    reference: Path
    ratio: float
    share: float = 0.005
    rate: float = 1e-7
    window: int = 10_000
    own: bool = False

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

    @property
    def enough(self) -> float:
        """The evidence that raises an alarm; there are several shares, and each may be wrong."""
        return math.log(_SHARES / self.rate)

    async def featurizer(self, companions: Companions, card: Card) -> Features:
        """Reads the reference; returns what computes rows as bytes and their distances to it.

        Raises:
            BadInput: There is no such file, or its rows are not the victim's.
        """
        return (await asyncio.to_thread(Reference, self.reference, card.input_shape)).features

    def begin(self) -> State:
        """Returns the state in which nothing has been sent."""
        return State()

    def observe(self, state: State, rows: Array, labels: Labels, accounts: Sequence[str]) -> State:
        """Folds the features of more rows into a state (:meth:`~.detector.CrossAccountDetector.observe`)."""
        return self.weigh(state, accounts, state.recent.take(rows, accounts, self.window))

    def weigh(self, state: State, accounts: Sequence[str], found: Nearest) -> State:
        """Adds rows to the evidence of the accounts that sent them."""
        shares = self.share ** (np.arange(1, _SHARES + 1) / (_SHARES + 1))
        miss, hit = np.log((1 - shares) / (1 - self.share)).tolist(), np.log(shares / self.share).tolist()
        hits = (self.ratios(found) < self.ratio).tolist()
        for name, is_hit, is_copy in zip(accounts, hits, found.copies.tolist(), strict=True):
            account = state.accounts.setdefault(name, Account())
            account.rows += 1
            if is_copy:
                continue
            gains = hit if is_hit else miss
            account.evidence = [max(0.0, e + gain) for e, gain in zip(account.evidence, gains, strict=True)]
            if (most := max(account.evidence)) >= self.enough and name not in state.alarms:
                state.alarms[name] = Alarm(account.rows, most)
        return state

    def ratios(self, found: Nearest) -> Array:
        """Returns how near rows are to others that count, ``(n,)``; inf where that is the account's own row."""
        return np.where(self.own | (found.owners != found.senders), found.ratios, np.inf)

    def forget(self, state: State, account: str) -> State:
        """Clears an account's evidence, alarm and number of rows; its rows still count as others' neighbours."""
        state.alarms.pop(account, None)
        state.accounts.pop(account, None)
        return state

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Sybils, Calibration]:
        """Returns it with the greatest ratio that makes hits of at most ``share`` of harmless rows.

        Args:
            chosen: Of each harmless account the features of its rows, ``(n, d)``, and the victim's labels. The
                accounts send their rows in turn; copies do not count. Where there are fewer than twice ``window``
                rows, only a smaller share may be hits in the smaller window that they fill, in proportion.
            held_out: Accounts with other rows.
            fpr: Greatest share of the former that may be accused.

        Raises:
            BadInput: There are too few, or more of them are accused.
        """
        check_rate(fpr)
        chosen, held_out = list(chosen), list(held_out)
        rows, accounts = in_turn(chosen)
        _, first = np.unique(rows, axis=0, return_index=True)
        first.sort()
        ratios = self.ratios(Recent().take(rows[first], [accounts[i] for i in first], self.window))
        filled = min(self.window, len(first) // 2)
        later = np.sort(ratios[filled:])
        allowed = math.floor(self.share * filled / self.window * len(later))
        if not allowed:
            raise BadInput(
                f"sybils: {len(first)} different harmless rows cannot show that a share of {self.share:g} are "
                f"hits in a window of {self.window}; expected more rows, or a smaller window"
            )
        tuned = replace(self, ratio=float(min(1.0, later[allowed])))
        accused, others = (len(tuned.accused(streams)) for streams in (chosen, held_out))
        if accused > fpr * len(chosen):
            raise BadInput(f"sybils: {accused} of {len(chosen)} harmless accounts are accused with {tuned}")
        return tuned, tried(tuned.ratio, others, len(held_out))

    def accused(self, streams: Streams) -> Mapping[str, Alarm]:
        """Returns the alarms of accounts that send their rows in turn (:func:`~.calibration.in_turn`)."""
        rows, accounts = in_turn(streams)
        return self.observe(self.begin(), rows, np.zeros(len(rows), np.int64), accounts).alarms
