"""What accounts that raised an alarm are told: less, or what is shuffled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from defenses.answers.row_noise import row_noise
from defenses.defense import Handler
from defenses.reactions.alarm import StandingAlarm
from wire import Answer, Array, Card, Query

_TOP = 3  # classes that are shuffled


@dataclass(frozen=True)
class Reacting:
    """Coarsens or shuffles the answers of some accounts; stands outside all other layers, and on no card.

    Attributes:
        classes: Number of the model's classes.
        alarms: Tells the alarms that stand for an account.
        secret: Key of the shuffling, 1 to 64 bytes.
        unmarked: What a deceived account's answers are made of, so that no mark of a watermark is registered that
            the account is then told otherwise; None if it is the layers inside.
    """

    classes: int
    alarms: Callable[[str], Iterable[StandingAlarm]]
    secret: bytes = field(repr=False)
    unmarked: Handler | None = field(default=None, repr=False)

    async def __call__(self, query: Query, handle: Handler) -> Answer:
        """Answers as the alarms say that stand when the query comes."""
        alarms = list(self.alarms(query.account))
        if not alarms:
            return await handle(query)
        if any(alarm.reaction == "deceive" for alarm in alarms):
            answer = await (self.unmarked or handle)(query)
            answer = shuffled(self.secret, query.x, answer, self.classes)
        else:
            answer = await handle(query)
        for alarm in alarms:
            if alarm.reaction == "coarsen":
                answer = coarsened(answer, alarm.digits)
        return answer

    def disclose(self, card: Card) -> Card:
        """Leaves the card as it is: who raised an alarm need not know."""
        return card


def coarsened(answer: Answer, digits: int | None) -> Answer:
    """Rounds the probabilities to some decimals; None withholds all of them, which leaves the labels."""
    if answer.probs is None:
        return answer
    return Answer(
        answer.labels, np.full_like(answer.probs, np.nan) if digits is None else answer.probs.round(digits)
    )


def shuffled(secret: bytes, x: Array, answer: Answer, classes: int) -> Answer:
    """Shuffles the likeliest classes of each row, always the same way for the same row.

    Where labels alone are told, the classes that follow the label take the place of the next likely ones.

    Args:
        secret: The key.
        x: The rows, ``(n, ...)``.
        answer: What would be told of them.
        classes: Number of classes.
    """
    top = min(_TOP, classes)
    drawn = row_noise(secret, x, top).argsort(axis=1)  # the class of rank i is told what rank drawn[i] had
    rows = np.arange(len(x))
    to = drawn.argmin(axis=1)  # the rank of the class that is told as the label
    if answer.probs is None:
        return Answer((answer.labels + to) % classes)
    likely = np.nan_to_num(answer.probs, nan=-1.0)
    likely[rows, answer.labels] = np.inf
    order = np.argsort(-likely, axis=1, kind="stable")[:, :top]
    probs = answer.probs.copy()
    np.put_along_axis(probs, order, np.take_along_axis(np.take_along_axis(probs, order, 1), drawn, 1), 1)
    return Answer(order[rows, to], probs)
