"""Campaign: flags groups of accounts that act as one.

The detector is our own combination of known parts, for thefts by many accounts of which each sends too little to
be judged alone. Accounts are *linked* if they share a payer, a network prefix, a cohort (the same client, plan and
hour in which the account was made), or a wave (they begin to ask, after a pause, within the same minutes). A link
accuses nobody: resellers, classes of students and customers of one tool are linked too. It only says whose
evidence is pooled. An account belongs to several groups.

Two statistics are asked about each group, and neither sees what one account does alone:

- *shared discrepancy*: the maximum mean discrepancy of :mod:`~defenses.detectors.mmd` over a window of the group's
  rows, but only over pairs of rows of two accounts (a U-statistic as in Gretton et al., "A Kernel Two-Sample
  Test", JMLR 2012, section 4). It is greater than 0 in expectation only if different accounts differ from harmless
  rows in the same direction. One thief in a class of students does not make it so; that one is for ``mmd`` to
  find.
- *beat*: how regular the gaps are between successive requests of two accounts. Independent senders make gaps like
  those of a Poisson process; one queue that goes on from key to key does not.

An alarm concerns the accounts of the window that take part: those whose rows differ from harmless rows as the
others' do, or that keep the beat. If the group has one payer, it concerns all accounts of that payer, later ones
too.

Limits. The detector does not find:

- accounts that share nothing and never begin to ask within the same minutes;
- rows of the harmless distribution, except by their beat; pauses of exponential length hide it at no cost;
- shards that tile the input space, as such: how far their mean differs from that of independent skewed customers
  is two deviations of the latter, whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from defenses.companions import Companions
from defenses.detectors.calibration import Calibration, check_rate, in_order, tried
from defenses.detectors.detector import Alarm, Features, Sent
from defenses.monitoring.embedding import Embedding
from defenses.monitoring.groups import Group, State
from defenses.monitoring.links import Queue, Run, Shares, links, runs
from wire import Array, BadInput, Card, Labels


class Found(NamedTuple):
    """The statistics of a group's window: its shared discrepancy, and the irregularity of its requests."""

    group: str
    shared: float = -math.inf
    beat: float = math.inf


@dataclass(frozen=True)
class Campaign:
    """Pools the rows of linked accounts, and tests whether they differ from harmless rows in the same way.

    A row costs a forward pass for the victim's features, and the log stores 1 KiB. The server notes payers,
    networks and clients only with a table ``origins``; without it, accounts are linked by waves alone.

    Attributes:
        reference: File of harmless rows (npz) that the victim was not trained on, with labels for ``by_class``.
        delta: Threshold on the shared discrepancy, squared; a greater one raises an alarm.
        beat: Threshold on the irregularity of a group's requests; a smaller one raises an alarm.
        rows: Rows in a window of a group.
        requests: Requests in a window of a group.
        span: Seconds within which accounts that begin to ask make a wave.
        pause: Seconds without a request after which an account begins to ask anew.
        quota: Rows of a payer per day (UTC), over all its accounts; more raise an alarm. 0 for no quota.
        by_class: Whether a row is compared with harmless rows of its class, or with all.
    """

    uncalibrated: ClassVar[Mapping[str, Any]] = {"delta": 4.0, "beat": 0.0}
    needs_classes: ClassVar[bool] = True
    any_rows: ClassVar[bool] = True
    linked: ClassVar[bool] = True

    reference: Path
    delta: float
    beat: float
    rows: int = 200
    requests: int = 100
    span: float = 600.0
    pause: float = 1800.0
    quota: int = 0
    by_class: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.delta <= 4 or not 0 <= self.beat <= 4:
            raise BadInput(
                f"campaign: delta and beat must lie between 0 and 4, not {self.delta:g} and {self.beat:g}"
            )
        if self.rows < 2 or self.requests < 4 or self.quota < 0 or not (self.span > 0 and self.pause > 0):
            raise BadInput(
                "campaign: rows must be at least 2, requests at least 4, span and pause greater than 0, and quota "
                f"at least 0, not {self.rows}, {self.requests}, {self.span:g}, {self.pause:g} and {self.quota}"
            )

    async def featurizer(self, companions: Companions, card: Card) -> Features:
        """Reads the harmless rows; returns the function from rows to their features.

        Raises:
            BadInput: The file does not exist, or its rows do not fit the victim.
        """
        return (await Embedding.of(self.reference, companions, card, self.by_class)).features

    def begin(self) -> State:
        """Returns the initial state."""
        return State()

    def observe(
        self, state: State, rows: Array, labels: Labels, accounts: Sequence[str], sent: Sequence[Sent] = ()
    ) -> State:
        """Folds the features of more rows into a state (:meth:`~.detector.LinkedDetector.observe`)."""
        self._fold(state, rows, accounts, sent)
        return state

    def sent(self, state: State, account: str) -> int:
        """Returns how many rows an account has sent since it was last forgotten."""
        return state.accounts[account].rows if account in state.accounts else 0

    def forget(self, state: State, account: str) -> State:
        """Clears an account's evidence and alarm, and what its payer's alarm says of other accounts."""
        state.forget(account)
        return state

    def calibrated(
        self, chosen: Iterable[Any], held_out: Iterable[Any], fpr: float
    ) -> tuple[Campaign, Calibration]:
        """Returns the detector with thresholds that at most a share of harmless groups exceed.

        Args:
            chosen: For each harmless account, its rows (:data:`~.calibration.Sendings`).
            held_out: Accounts with other rows.
            fpr: Maximum share of the chosen groups with an alarm, for each of the two statistics.

        Raises:
            BadInput: It is not known when the rows came, or no group has as many rows as a test needs.
        """
        check_rate(fpr)
        worst: dict[str, Found] = {}
        for found in self._fold(State(), *in_order(chosen)):
            group = worst.get(found.group, Found(found.group))
            worst[found.group] = Found(found.group, max(group.shared, found.shared), min(group.beat, found.beat))
        shared = sorted((one.shared for one in worst.values() if one.shared > -math.inf), reverse=True)
        beats = sorted(one.beat for one in worst.values() if one.beat < math.inf)
        if not shared:
            raise BadInput(f"campaign: no group of harmless accounts has {self.rows} rows; use more accounts")
        delta = min(4.0, max(0.0, shared[math.floor(fpr * len(shared))]))
        beat = min(4.0, beats[math.floor(fpr * len(beats))]) if beats else 0.0
        tuned = replace(self, delta=delta, beat=beat)
        others = list(held_out)
        return tuned, tried(delta, len(tuned.accused(others)), len(others))

    def accused(self, streams: Iterable[Any]) -> Mapping[str, Alarm]:
        """Returns the alarms of accounts, by number, given their rows (:data:`~.calibration.Sendings`)."""
        state = State()
        self._fold(state, *in_order(streams))
        return state.alarms

    def _fold(self, state: State, rows: Array, accounts: Sequence[str], sent: Sequence[Sent]) -> list[Found]:
        """Folds rows into a state; returns the statistics of the windows that end."""
        x, found = rows.reshape(len(rows), -1).astype(np.float64), list[Found]()
        if len(accounts) != len(x) or len(sent) not in (0, len(x)):
            raise ValueError(f"{len(x)} rows of {len(accounts)} accounts, sent at {len(sent)} times")
        for run in runs(accounts, sent or [Sent()] * len(x)):
            found += self._take(state, run, x[run.start : run.stop])
        return found

    def _take(self, state: State, run: Run, x: Array) -> list[Found]:
        """Folds rows of one request into all groups of its account."""
        name, at, found = run.account, run.sent.at, list[Found]()
        begins = state.arrive(name, at, len(x), self.pause)
        for link in links(run.sent, state.accounts[name].session, self.span):
            group = state.group(link, name, at)
            if begins:
                found += self._time(state, link, group, run)
            found += self._pool(state, link, group, name, x)
            if group.payers:
                state.bill(group, name, len(x), self.quota)
        return found

    def _pool(self, state: State, link: str, group: Group, name: str, x: Array) -> list[Found]:
        """Adds rows to a group's window, and tests each window that is full."""
        found, left = list[Found](), len(x)
        while left:
            part = x[len(x) - left :][: self.rows - group.window.seen]
            group.window.add(name, part)
            left -= len(part)
            if group.window.seen == self.rows:
                shared, own = group.window.across()
                group.window = Shares()
                found.append(Found(link, shared=shared))
                if shared > self.delta:
                    guilty = [each for each, share in own.items() if share > shared / 2]
                    state.accuse(group, guilty, shared, name, state.accounts[name].rows - left)
        return found

    def _time(self, state: State, link: str, group: Group, run: Run) -> list[Found]:
        """Adds a request to a group's queue, and tests a queue that is full."""
        group.queue.add(run.account, run.sent.at)
        if len(group.queue.times) < self.requests:
            return []
        beat, keep = group.queue.beat()
        group.queue = Queue()
        if beat < self.beat:
            first = state.accounts[run.account].rows - (run.stop - run.start) + 1
            state.accuse(group, keep, beat, run.account, first)
        return [Found(link, beat=beat)]
