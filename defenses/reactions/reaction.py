"""Changes the answers to accounts that raised an alarm, from the row on that raised it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from defenses.answers.grid import ANY, Grid
from defenses.defense import Handler, Layer, compose
from defenses.reactions.alarm import Alarmed, StandingAlarm
from defenses.reactions.coarsen import coarsened
from defenses.reactions.deceive import shuffled
from defenses.reactions.refuse import expect_answerable
from wire import Answer, Query


@dataclass(frozen=True)
class Reaction:
    """Coarsens or shuffles the answers to accounts with alarms, without disclosing it on the card.

    Admission handles ``refuse`` and ``slow`` for alarms that stood when a query was admitted. An alarm that a
    query itself raises, or that another raises meanwhile, refuses it, or applies to its rows from the alarm on.

    Attributes:
        classes: Number of the model's classes.
        secret: Key for shuffling, 1 to 64 bytes.
        victim: Answers queries.
        layers: The layers around it, outermost first, apart from
        marks: the watermark, which stands inside these, and
        monitors: those that watch, which stand innermost.
        grid: The grid of the model's rows.
    """

    classes: int
    secret: bytes = field(repr=False)
    victim: Handler = field(repr=False)
    layers: Sequence[Layer] = ()
    marks: Sequence[Layer] = ()
    monitors: Sequence[Layer] = ()
    grid: Grid = ANY

    def around(self, alarms: Sequence[StandingAlarm]) -> Handler:
        """Returns the handler for an account with these alarms.

        Deceived accounts get answers without the watermark, so that no mark is registered that they did not
        receive.
        """
        known = dict.fromkeys(alarms, 0)
        deceived = any(alarm.reaction == "deceive" for alarm in alarms)
        handle = self._unmarked if deceived else self._marked

        async def reacting(query: Query) -> Answer:
            places = known
            try:
                answer = await handle(query)
            except Alarmed as alarmed:
                places = {**alarmed.places, **known}
                expect_answerable(alarm for alarm in places if alarm not in known)
                answer = await self._outside(query, alarmed.answer, _deceived_from(places, query))
            return self._changed(query, answer, places) if places else answer

        return reacting

    @cached_property
    def _marked(self) -> Handler:
        return compose([*self.layers, *self.marks, *self.monitors], self.victim)

    @cached_property
    def _unmarked(self) -> Handler:
        return compose([*self.layers, *self.monitors], self.victim)

    async def _outside(self, query: Query, answer: Answer, deceived: int) -> Answer:
        """Applies the layers outside the monitors; rows from the index ``deceived`` on are not marked."""
        parts = []
        for rows, marks in ((slice(0, deceived), self.marks), (slice(deceived, len(query.x)), ())):
            if rows.start < rows.stop:
                told = answer[rows]

                async def watched(_: Query, told: Answer = told) -> Answer:
                    return told

                handle = compose([*self.layers, *marks], watched)
                parts.append(await handle(replace(query, x=query.x[rows])))
        return Answer.join(parts)

    def _changed(self, query: Query, answer: Answer, places: dict[StandingAlarm, int]) -> Answer:
        """Changes the rows from each alarm on."""
        if (at := _deceived_from(places, query)) < len(query.x):
            answer = Answer.join(
                [answer[:at], shuffled(self.secret, query.x[at:], answer[at:], self.classes, self.grid)][at == 0 :]
            )
        for alarm, at in places.items():
            if alarm.reaction == "coarsen":
                answer = Answer.join([answer[:at], coarsened(answer[at:], alarm.digits)][at == 0 :])
        return answer


def _deceived_from(places: dict[StandingAlarm, int], query: Query) -> int:
    """Returns the index of the first row that is deceived; the number of rows if none is."""
    return min([at for alarm, at in places.items() if alarm.reaction == "deceive"], default=len(query.x))
