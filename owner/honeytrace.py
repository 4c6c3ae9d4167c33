"""Neural Honeytrace's claim: does a suspect assign the secret class to secret triggers?

Source: Xu, Fang, Wang, Zhou, Liu, Li, Tian, "Neural Honeytrace: Plug&Play Watermarking Framework against Model
Extraction Attacks", arXiv 2501.09328 (a claim by a t-test on triggers). The answers are changed by
``defenses/watermarks/honeytrace.py``.

What differs: the paper's t-test over the triggers asks whether a suspect returns the class more often than by
chance. But triggers resemble one another, and so do models. So the suspect's share is compared with those of
independent models, by the t distribution for one more of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from owner.evidence import Evidence
from owner.one_more import beyond, enough, evidence, share
from owner.ownership import MostRows
from wire import BadInput, Card, Oracle
from wire.fits import label_misfit, misfit
from zoo.data.pool import Pool

CAUTION = (
    "The p-value holds if the independent models resemble the suspect in all but the theft, and if the triggers "
    "were drawn from a secret that was fixed before there was a suspect. Models differ much about composites: the "
    "study of all schemes found far more false accusations than the level says."
)


@dataclass(frozen=True)
class Triggers:
    """The owner's holdings.

    Attributes:
        triggers: Triggers, all labelled with the secret class.
        independent: Models known not to be stolen, by name.
    """

    triggers: Pool
    independent: Mapping[str, Oracle]


@dataclass(frozen=True, eq=False)
class Study:
    """The triggers, and how often independent models return their class.

    Attributes:
        triggers: The triggers to show.
        independent: The share of each independent model.
    """

    triggers: Pool
    independent: Mapping[str, float]


@dataclass(frozen=True)
class Leaning:
    """How often a suspect returns the secret class for triggers.

    Attributes:
        rows: Number of triggers that were shown.
        shared: Share of them for which the suspect returns the class.
        z: The share, in deviations of the independent models' from their mean.
        independent: The share of each independent model.
    """

    rows: int
    shared: float
    z: float
    independent: dict[str, float]

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        return [
            f"the suspect gives {self.shared:.1%} of {self.rows} triggers their secret class",
            *(f"independent model {name}: {found:.1%}" for name, found in self.independent.items()),
            f"z among the independent models: {self.z:.2f}",
            "next: give secret and rows to a judge, who makes the triggers again",
        ]


@dataclass(frozen=True)
class HoneytraceTest:
    """Neural Honeytrace: does a suspect return the secret class for secret triggers? (arXiv 2501.09328).

    Attributes:
        rows: Maximum number of triggers to show: the first ones.
        alpha: Significance level.
        tries: Number of suspects and of secrets that the owner tried; multiplies the p-value.
    """

    rows: int = 200
    alpha: float = 0.01
    tries: int = 1

    def __post_init__(self) -> None:
        if self.rows < 1 or self.tries < 1 or not 0 < self.alpha < 1:
            raise BadInput(
                f"rows and tries must be at least 1 and alpha between 0 and 1, not {self.rows}, {self.tries} and "
                f"{self.alpha}"
            )

    def most_rows(self) -> MostRows:
        """Returns the maximum number of rows that the suspect is asked about."""
        return MostRows(victim=0, suspect=self.rows)

    def check(self, suspect: Card, holdings: Triggers) -> None:
        """Raises :class:`~wire.BadInput` if there are too few models, or one does not take the triggers."""
        enough(holdings.independent)
        marks = holdings.triggers
        if marks.y is None or len(set(marks.y.tolist())) != 1:
            raise BadInput("expected triggers that are all labelled with the secret class")
        for card in (suspect, *(model.card for model in holdings.independent.values())):
            if fault := misfit(marks.x, card) or label_misfit(marks.y, card):
                raise BadInput(f"model {card.model} does not take the triggers: {fault}")

    def prepare(self, holdings: Triggers, rng: np.random.Generator) -> Study:
        """Queries the independent models about the triggers."""
        marks = holdings.triggers.take(slice(self.rows))
        return Study(marks, {name: shared(model, marks) for name, model in holdings.independent.items()})

    def accuse(self, suspect: Oracle, study: Study, rng: np.random.Generator) -> Evidence[Leaning]:
        """Queries the suspect about the triggers."""
        before, own = suspect.spent, shared(suspect, study.triggers)
        z, p = beyond(own, list(study.independent.values()))
        details = Leaning(len(study.triggers), own, z, dict(study.independent))
        return evidence("honeytrace", self, p, suspect, before, CAUTION, details)


def shared(model: Oracle, marks: Pool) -> float:
    """Returns the share of triggers for which a model returns their class."""
    assert marks.y is not None
    return share(model, marks.x, marks.y)
