"""Sybils: flags accounts whose queries lie too close to one another, as in an attack from several accounts.

The detector is our own combination of known parts. An attacker who divides synthetic queries over many keys evades
detectors that watch each key separately (Zhang, Chen, Wagner, "SEAT: Similarity Encoder by Adversarial Training
for Detecting Model Extraction Attack Queries", AISec 2021, counts how many keys that takes). But a query made by a
small step from another one lies closer to it than harmless queries lie to one another, whichever account sent it.
Comparing the queries of all accounts follows Li et al., "Blacklight: Scalable Defense for Neural Networks against
Query-Based Black-Box Attacks", USENIX Security 2022.

The density of harmless rows varies over the input space, so a distance is divided by the distance to a reference:
a set of harmless rows that no account sends. A row is a *hit* if the nearest of the last ``window`` rows of all
accounts belongs to another account and is closer than ``ratio`` times the distance to the nearest reference row.
(The ratio of two distances is from Lowe, "Distinctive Image Features from Scale-Invariant Keypoints", IJCV 2004,
section 7.1.) An exact copy of an earlier row is neither a hit nor a miss, since many accounts send the same public
image.

At most a ``share`` of harmless rows are hits. An account's *evidence* is the log-likelihood ratio of its hits and
misses for each of several larger shares, since the row at which it was smallest (Page, "Continuous Inspection
Schemes", Biometrika 1954). So harmless queries before and between those of an attack delay the alarm but do not
prevent it. By Ville's inequality, the evidence of harmless rows from any given row on reaches ``log(1 / rate)``
with a probability of at most ``rate``.

Limits. The detector does not find, or misjudges:

- natural queries of the reference's own distribution. Natural queries of another distribution only show that
  several accounts share a source that is not in the reference, harmless or not;
- attacks that send all rows made from one another with the same account (but see ``own``);
- accounts with so few queries, or so many dummy queries, that none gathers enough evidence: at the default share
  and rate, an alarm takes at least five consecutive hits;
- attacks that send ``window`` other rows between a row and the rows made from it, or whose steps are as long as
  the distance to the nearest harmless row;
- which account came first: an account that innocently sends the seed rows of an attack also gets hits.
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

_SHARES = 5  # number of alternative shares of hits
_BESIDE = 350  # bytes of an account's evidence


@dataclass
class Account:
    """The state of one account.

    Attributes:
        rows: Number of rows that it sent.
        evidence: The evidence for each share of hits.
    """

    rows: int = 0
    evidence: list[float] = field(default_factory=lambda: [0.0] * _SHARES)


@dataclass
class State:
    """The state of all accounts of a model.

    Attributes:
        recent: The rows to compare new ones with.
        accounts: The accounts by name.
        alarms: The first alarm of each account that has one.
    """

    recent: Recent = field(default_factory=Recent)
    accounts: dict[str, Account] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of rows held."""
        return len(self.recent.owners)

    @property
    def nbytes(self) -> int:
        """Memory of the state, in bytes."""
        return self.recent.nbytes + _BESIDE * len(self.accounts)


@dataclass(frozen=True)
class Sybils:
    """Tests after each row whether too many of an account's rows lie too close to other accounts' rows.

    Rows are compared as bytes (:class:`~defenses.monitoring.reference.Reference`), so rows that differ by less
    than a step may count as copies. Each row is multiplied by ``window`` rows and all reference rows, in int8;
    this may take longer than the victim's own forward pass. The common log of all accounts stores the bytes of
    each row and its distance to the reference.

    Attributes:
        reference: File of harmless rows (npz) that no account sends.
        ratio: Threshold for a hit, relative to the distance to the reference; :meth:`calibrated` chooses it.
        share: Maximum share of harmless rows that are hits.
        rate: Maximum expected number of false alarms per harmless row.
        window: Number of latest rows, of all accounts, to compare a row with.
        own: Whether rows close to the account's own rows also count as hits. This detects an attack by one key,
            and one that sends all rows made from one another with the same key, but also flags the frames of a
            video.
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
        """The evidence that raises an alarm, with a Bonferroni correction for the number of shares."""
        return math.log(_SHARES / self.rate)

    async def featurizer(self, companions: Companions, card: Card) -> Features:
        """Reads the reference; returns the function from rows to their bytes and distances to the reference.

        Raises:
            BadInput: The file does not exist, or its rows do not fit the victim.
        """
        return (await asyncio.to_thread(Reference, self.reference, card.input_shape)).features

    def begin(self) -> State:
        """Returns the initial state."""
        return State()

    def observe(self, state: State, rows: Array, labels: Labels, accounts: Sequence[str]) -> State:
        """Folds the features of more rows into a state (:meth:`~.detector.CrossAccountDetector.observe`)."""
        return self.weigh(state, accounts, state.recent.take(rows, accounts, self.window))

    def weigh(self, state: State, accounts: Sequence[str], found: Nearest) -> State:
        """Updates the evidence of the accounts that sent the rows."""
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
        """Returns the distance ratios of rows, ``(n,)``; inf if the nearest row is the account's own."""
        return np.where(self.own | (found.owners != found.senders), found.ratios, np.inf)

    def sent(self, state: State, account: str) -> int:
        """Returns how many rows an account has sent since it was last forgotten."""
        return state.accounts[account].rows if account in state.accounts else 0

    def forget(self, state: State, account: str) -> State:
        """Clears an account's evidence, alarm and row count; its rows still count as others' neighbours."""
        state.alarms.pop(account, None)
        state.accounts.pop(account, None)
        return state

    def calibrated(self, chosen: Streams, held_out: Streams, fpr: float) -> tuple[Sybils, Calibration]:
        """Returns the detector with the largest ratio at which at most ``share`` of harmless rows are hits.

        Args:
            chosen: For each harmless account, the features of its rows, ``(n, d)``, and the victim's labels. The
                accounts take turns; copies do not count. With fewer than twice ``window`` rows, the window is only
                partly filled, and the allowed share of hits is reduced in proportion.
            held_out: Accounts with other rows.
            fpr: Maximum share of the chosen accounts that may be accused.

        Raises:
            BadInput: There are too few rows, or too many accounts are accused.
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
                f"sybils: {len(first)} distinct harmless rows are too few to estimate a share of {self.share:g} "
                f"hits in a window of {self.window}; use more rows, or a smaller window"
            )
        tuned = replace(self, ratio=float(min(1.0, later[allowed])))
        accused, others = (len(tuned.accused(streams)) for streams in (chosen, held_out))
        if accused > fpr * len(chosen):
            raise BadInput(f"sybils: {accused} of {len(chosen)} harmless accounts are accused with {tuned}")
        return tuned, tried(tuned.ratio, others, len(held_out))

    def accused(self, streams: Streams) -> Mapping[str, Alarm]:
        """Returns the alarms of accounts that take turns (:func:`~.calibration.in_turn`)."""
        rows, accounts = in_turn(streams)
        return self.observe(self.begin(), rows, np.zeros(len(rows), np.int64), accounts).alarms
