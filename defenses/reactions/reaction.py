"""Changes the answers to accounts that raised an alarm, from the row on that raised it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from defenses.answers.grid import ANY, Grid
from defenses.answers.row_noise import row_noise
from defenses.defense import Handler, Layer, compose
from defenses.reactions.alarm import Alarmed, StandingAlarm, expect_answerable
from wire import Answer, Array, Query

_TOP = 3  # number of classes to shuffle


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


def coarsened(answer: Answer, digits: int | None) -> Answer:
    """Rounds the probabilities to ``digits`` decimals; None withholds them and leaves the labels.

    Raises:
        ValueError: The answer is an encoder's; a monitor's card refuses such a reaction.
    """
    if answer.embeddings is not None:
        raise ValueError("embeddings cannot be coarsened")
    if answer.probs is None:
        return answer
    return Answer(
        answer.labels, np.full_like(answer.probs, np.nan) if digits is None else answer.probs.round(digits)
    )


def shuffled(secret: bytes, x: Array, answer: Answer, classes: int, grid: Grid = ANY) -> Answer:
    """Shuffles the likeliest classes of each row, always the same way for the same row.

    If an answer has labels only, the classes that follow the label stand in for the next likeliest ones.

    Args:
        secret: The key.
        x: The rows, ``(n, ...)``.
        answer: The answer before shuffling.
        classes: Number of classes.
        grid: The grid of the model's rows.
    """
    top = min(_TOP, classes)
    drawn = row_noise(secret, x, top, grid).argsort(axis=1)  # rank i gets the probability of rank drawn[i]
    rows = np.arange(len(x))
    to = drawn.argmin(axis=1)  # the rank of the class that becomes the label
    if answer.probs is None:
        return Answer((answer.labels + to) % classes)
    likely = np.nan_to_num(answer.probs, nan=-1.0)
    likely[rows, answer.labels] = np.inf
    order = np.argsort(-likely, axis=1, kind="stable")[:, :top]
    probs = answer.probs.copy()
    np.put_along_axis(probs, order, np.take_along_axis(np.take_along_axis(probs, order, 1), drawn, 1), 1)
    return Answer(order[rows, to], probs)
