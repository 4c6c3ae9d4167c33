"""Runs a detector at a served model: logs rows before their answer is sent, and folds them in every worker.

See :mod:`defenses.monitoring.account_state` for how an account's state follows its log.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Literal

from defenses.defense import Handler, Layer, Stage
from defenses.detectors.detector import CrossAccountDetector, Detector, Features, Featurizer, LinkedDetector, Sent
from defenses.monitoring.account_state import AccountState
from defenses.monitoring.records import entry
from defenses.reactions.alarm import Alarmed, StandingAlarm
from defenses.site import Site
from wire import Answer, Array, BadInput, Card, Labels, Origin, Query, Refused

log = logging.getLogger(__name__)

_HELD = 2**28  # bytes of account states to keep in memory, besides those in use
_EVERYBODY = "*"  # the name of the log of all accounts; no account has this name


@dataclass(frozen=True)
class Consequence:
    """The reaction to an alarm, and the treatment of rows that cannot be logged.

    Attributes:
        reaction: How to serve the account from the row on that raised the alarm: as before (``log``), not at all
            (``refuse``), more and more slowly (``slow``), with labels only or rounded probabilities
            (``coarsen``), or with shuffled probabilities (``deceive``). ``refuse`` and ``slow`` also refuse the
            whole request in which the alarm falls, and those that are still to be answered.
        digits: Number of decimals for ``coarsen``; by default, it leaves labels only.
        open: Whether to answer rows that cannot be logged, unmonitored, instead of refusing them.
    """

    reaction: Literal["log", "refuse", "slow", "coarsen", "deceive"] = "log"
    digits: int | None = None
    open: bool = False

    def __post_init__(self) -> None:
        if self.digits is not None and (self.reaction != "coarsen" or not 0 <= self.digits <= 8):
            raise BadInput(
                "digits go with the reaction coarsen and must lie between 0 and 8; "
                f"got {self.digits} with the reaction {self.reaction}"
            )


@dataclass(frozen=True)
class Monitored:
    """The defence that monitors accounts with a detector.

    A changed detector or victim starts anew, with its own logs. A request that is retried with its idempotency key
    is observed once, unless more than 4,096 requests with keys lie between. Without a key, a retry counts as a new
    request.

    Attributes:
        detector: The detector.
        kind: The detector's type in the TOML.
        consequence: The reaction to an alarm.
    """

    detector: Detector | CrossAccountDetector
    kind: str
    consequence: Consequence = Consequence()

    stage: ClassVar[Stage] = Stage.MONITOR

    def bind(self, site: Site) -> Layer:
        """Returns the monitor for a site."""
        return Monitor(self.detector, self.kind, self.consequence, site)

    def disclose(self, card: Card) -> Card:
        """Returns the card unchanged; rows must be numbers, without missing features, unless it takes any.

        An encoder has no classes, so its accounts can be neither deceived nor told less precisely.
        """
        if card.embedding and getattr(self.detector, "needs_classes", False):
            raise BadInput(
                f"{self.kind}: needs classes, and the model answers embeddings of {card.embedding} numbers"
            )
        if card.embedding and self.consequence.reaction in ("coarsen", "deceive"):
            raise BadInput(
                f"{self.kind}: the reaction {self.consequence.reaction} changes probabilities, and the model "
                f"answers embeddings; expected log, slow or refuse"
            )
        if getattr(self.detector, "any_rows", False):
            return card
        if card.dtype == "BYTES" or card.missing:
            what = "texts" if card.dtype == "BYTES" else "rows with missing features"
            raise BadInput(f"{self.kind}: the model takes {what}; expected rows of numbers")
        return card


class Monitor:
    """A running monitor; it stands innermost, so that it sees the victim's own answers.

    Attributes:
        detector: The detector.
        kind: The detector's type in the TOML.
        consequence: The reaction to an alarm.
        site: The site.
        together: Whether all accounts share one state.
        linked: Whether the detector also sees when and from where each request came.
    """

    def __init__(
        self, detector: Detector | CrossAccountDetector, kind: str, consequence: Consequence, site: Site
    ) -> None:
        """Makes a monitor without accounts."""
        self.detector, self.kind, self.consequence, self.site = detector, kind, consequence, site
        self.together = isinstance(detector, CrossAccountDetector)
        self.linked = isinstance(detector, LinkedDetector)
        self._features: Features | None = None if isinstance(detector, Featurizer) else _rows
        self._accounts: OrderedDict[str, AccountState] = OrderedDict()
        self._held = 0  # bytes of all account states

    async def start(self) -> None:
        """Loads the detector's featurizer, if it has one.

        Raises:
            BadInput: The features cannot be computed for this victim.
        """
        if isinstance(self.detector, Featurizer):
            self._features = await self.detector.featurizer(self.site.companions, self.site.card)

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers after the rows are in the account's log.

        Raises:
            Alarmed: An alarm concerns the query.
            Refused: The store is unavailable, or the log cannot be read (503).
        """
        if self._features is None:
            await self.start()
        assert self._features is not None
        places: dict[StandingAlarm, int] = {}
        try:
            answer = await handle(query)
        except Alarmed as inside:
            answer, places = inside.answer, dict(inside.places)
        rows = await self._features(query.x, answer.labels)
        clears = self.site.alarms.clears(query.account, self.site.model, self.kind)
        name = query.account if self.together else None
        sent = Sent(query.at, query.origin or Origin()) if self.linked else None
        record = entry(rows, answer.labels, query.idempotency_key, name, clears, sent)
        before = None
        try:
            before = await self.account(query.account).take(record)
        except Refused as refused:
            if not self.consequence.open:
                raise
            log.error("model %s: rows of account %s were not logged: %s", self.site.model, query.account, refused)
        for alarm in self.site.alarms.standing(query.account, self.site.model):
            if alarm.detector == self.kind and alarm.reaction != "log":
                at = 0 if before is None else max(0, alarm.row - 1 - before)
                if at < len(query.x) or alarm.reaction == "refuse":
                    places[alarm] = at
        if places:
            raise Alarmed(answer, places)
        return answer

    def account(self, name: str) -> AccountState:
        """Returns the state of an account, or of all accounts if they share one."""
        name = _EVERYBODY if self.together else name
        if name not in self._accounts:
            self._accounts[name] = AccountState(self, name)
            self._held += self._accounts[name].nbytes
        self._accounts.move_to_end(name)
        return self._accounts[name]

    def resize(self, name: str, account: AccountState, nbytes: int) -> None:
        """Records the size of a state, and drops the least recently used ones, which can be read again."""
        if self._accounts.get(name) is account:  # otherwise it was dropped
            self._held += nbytes - account.nbytes
        account.nbytes = nbytes
        while self._held > _HELD and len(self._accounts) > 1:
            self._held -= self._accounts.popitem(last=False)[1].nbytes


async def _rows(x: Array, labels: Labels) -> Array:
    """The features of a detector that observes the rows themselves."""
    return x
