"""A detector at a served model: rows are logged before their answer leaves, and folded in every worker.

See :mod:`defenses.monitoring.account_state` for how an account's state follows its log.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import ClassVar, Literal

from defenses.defense import Handler, Layer, Stage
from defenses.detectors.detector import CrossAccountDetector, Detector, Features, Featurizer
from defenses.monitoring.account_state import AccountState
from defenses.monitoring.records import entry
from defenses.site import Site
from wire import Answer, Array, BadInput, Card, Labels, Query, Refused

log = logging.getLogger(__name__)

_HELD = 2**28  # bytes of account states that a monitor keeps in memory, beside those in use
_EVERYBODY = "*"  # the name of a log of all accounts; no account is called so


@dataclass(frozen=True)
class Consequence:
    """What becomes of an account that raised an alarm, and of rows that cannot be logged.

    Attributes:
        reaction: How the account is served from its next request on: as before (``log``), refused, slowed down,
            with labels only or rounded probabilities (``coarsen``), or with shuffled ones (``deceive``).
        digits: Decimals that ``coarsen`` leaves; by default labels only.
        open: Whether rows that cannot be logged are answered, and go unwatched, rather than refused.
    """

    reaction: Literal["log", "refuse", "slow", "coarsen", "deceive"] = "log"
    digits: int | None = None
    open: bool = False

    def __post_init__(self) -> None:
        if self.digits is not None and (self.reaction != "coarsen" or not 0 <= self.digits <= 8):
            raise BadInput(
                "digits go with the reaction coarsen and lie between 0 and 8, "
                f"not with {self.reaction} and {self.digits}"
            )


@dataclass(frozen=True)
class Monitored:
    """Lets a detector monitor accounts.

    A changed detector or victim starts anew, with logs of its own. A request that is retried under its idempotency
    key is observed once, if at most 4,096 requests with keys lie between. Without a key, a retry is a request like
    any other.

    Attributes:
        detector: The detector.
        kind: Its type in the TOML.
        consequence: What an alarm leads to.
    """

    detector: Detector | CrossAccountDetector
    kind: str
    consequence: Consequence = Consequence()

    stage: ClassVar[Stage] = Stage.MONITOR

    def bind(self, site: Site) -> Layer:
        """Returns the monitor of a site."""
        return Monitor(self.detector, self.kind, self.consequence, site)

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is; rows must be numbers, none of them missing."""
        if card.dtype == "BYTES" or card.missing:
            what = "texts" if card.dtype == "BYTES" else "rows with missing features"
            raise BadInput(f"{self.kind}: the model takes {what}; expected rows of numbers")
        return card


class Monitor:
    """A running monitor; stands innermost, so that it sees the victim's own answers.

    Attributes:
        detector: The detector.
        kind: Its type in the TOML.
        consequence: What an alarm leads to.
        site: Where it runs.
        together: Whether all accounts share one state.
    """

    def __init__(
        self, detector: Detector | CrossAccountDetector, kind: str, consequence: Consequence, site: Site
    ) -> None:
        """Knows no account yet."""
        self.detector, self.kind, self.consequence, self.site = detector, kind, consequence, site
        self.together = isinstance(detector, CrossAccountDetector)
        self._features: Features | None = None if isinstance(detector, Featurizer) else _rows
        self._accounts: OrderedDict[str, AccountState] = OrderedDict()
        self._held = 0  # bytes of their states

    async def start(self) -> None:
        """Prepares the detector's features, if it observes any.

        Raises:
            BadInput: They cannot be computed for this victim.
        """
        if isinstance(self.detector, Featurizer):
            self._features = await self.detector.featurizer(self.site.companions, self.site.card)

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers once the rows are in the account's log.

        Raises:
            Refused: The store is away, or the log cannot be read (503).
        """
        if self._features is None:
            await self.start()
        assert self._features is not None
        answer = await handle(query)
        rows = await self._features(query.x, answer.labels)
        clears = self.site.alarms.clears(query.account, self.site.model, self.kind)
        name = query.account if self.together else None
        record = entry(rows, answer.labels, query.idempotency_key, name, clears)
        try:
            await self.account(query.account).take(record)
        except Refused as refused:
            if not self.consequence.open:
                raise
            log.error("model %s: rows of account %s go unwatched: %s", self.site.model, query.account, refused)
        return answer

    def account(self, name: str) -> AccountState:
        """Returns the state of an account, or that of all of them if they are watched together."""
        name = _EVERYBODY if self.together else name
        if name not in self._accounts:
            self._accounts[name] = AccountState(self, name)
            self._held += self._accounts[name].nbytes
        self._accounts.move_to_end(name)
        return self._accounts[name]

    def resize(self, name: str, account: AccountState, nbytes: int) -> None:
        """Records the size of a state, and drops those unused for longest; they can be read again."""
        if self._accounts.get(name) is account:  # else it was dropped
            self._held += nbytes - account.nbytes
        account.nbytes = nbytes
        while self._held > _HELD and len(self._accounts) > 1:
            self._held -= self._accounts.popitem(last=False)[1].nbytes


async def _rows(x: Array, labels: Labels) -> Array:
    """The features of a detector that observes the rows themselves."""
    return x
