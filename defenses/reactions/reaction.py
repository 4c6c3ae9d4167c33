"""Changes the answers to accounts that raised an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from defenses.defense import Handler
from defenses.reactions.alarm import StandingAlarm
from defenses.reactions.coarsen import coarsened
from defenses.reactions.deceive import shuffled
from wire import Answer, Query


@dataclass(frozen=True)
class Reaction:
    """Coarsens or shuffles the answers to accounts with alarms, without disclosing it on the card.

    Admission handles ``refuse`` and ``slow``.

    Attributes:
        classes: Number of the model's classes.
        secret: Key for shuffling, 1 to 64 bytes.
        handle: Answers accounts without alarms.
        unmarked: Answers without the watermark. Deceived accounts get these, shuffled, so that no mark is
            registered that the account did not receive.
    """

    classes: int
    secret: bytes = field(repr=False)
    handle: Handler = field(repr=False)
    unmarked: Handler = field(repr=False)

    def around(self, alarms: Sequence[StandingAlarm]) -> Handler:
        """Returns the handler for an account with these alarms."""
        if not alarms:
            return self.handle
        deceived = any(alarm.reaction == "deceive" for alarm in alarms)
        digits = [alarm.digits for alarm in alarms if alarm.reaction == "coarsen"]

        async def reacting(query: Query) -> Answer:
            answer = await (self.unmarked if deceived else self.handle)(query)
            if deceived:
                answer = shuffled(self.secret, query.x, answer, self.classes)
            for each in digits:
                answer = coarsened(answer, each)
            return answer

        return reacting
