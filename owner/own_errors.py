"""The victim's own errors: does a suspect make the errors that only the victim makes?

Source: Godinot, Le Merrer, Trédan, Penzo, Taïani, "Queries, Representation & Detection: The Next 100 Model
Fingerprinting Schemes", AAAI 2025 (natural images that the victim gets wrong do as well as elaborate ones).
Reference models that choose the errors and calibrate the score, and the score by the probability of the victim's
wrong class, follow the report of a student team on a contest of 2026, which calls the rows vulnerability samples.

What differs: there, the same references choose the rows and calibrate the score. But those references are right
about the chosen rows by construction, so a new independent model errs more often than they do. Here, one half of
the independent models chooses, and the other half calibrates; the suspect's score is compared with theirs by
Student's t. There, the score is the probability of the victim's wrong class, which is high for any model that is
worse than the references; here, it is the odds of that class against the other wrong ones, and the true class does
not count. No private row is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from owner.commitment import Receipt
from owner.evidence import Evidence
from owner.one_more import LEAST, beyond, enough, evidence
from owner.ownership import Committing, MostRows
from owner.scheme_key import SchemeKey, receipt_of
from wire import Answer, Array, BadInput, Card, Labels, Oracle
from wire.fits import label_misfit, misfit
from zoo.data.pool import Pool

FLOOR = 1e-6  # of a probability
CAUTION = (
    "The p-value holds if the independent models resemble the suspect in all but the theft, and if rows and "
    "models were fixed before there was a suspect. A judge must choose the rows by models of the judge's own."
)


@dataclass(frozen=True)
class Rows:
    """The owner's holdings.

    Attributes:
        victim: The victim.
        reference: Labelled rows that trained neither the victim nor an independent model.
        independent: Models known not to be stolen, by name.
        committed: The key, if the owner committed to victim and rows.
    """

    victim: Oracle
    reference: Pool
    independent: Mapping[str, Oracle]
    committed: SchemeKey | None = None


@dataclass(frozen=True, eq=False)
class Study:
    """The errors, and the answers of the calibrating models.

    Attributes:
        x: Rows that the victim gets wrong, ``(n, *shape)``.
        wrong: The victim's labels of them, ``(n,)``.
        y: Their true labels, ``(n,)``.
        told: The answers of the calibrating models, by name.
        receipt: The proof that the owner's log has the commitment; None without a log.
    """

    x: Array
    wrong: Labels
    y: Labels
    told: Mapping[str, Answer]
    receipt: Receipt | None = None


@dataclass(frozen=True)
class Errors:
    """How often and how strongly a suspect repeats the victim's errors.

    Attributes:
        rows: Number of rows that were shown.
        shared: Share of them to which the suspect gives the victim's wrong label.
        score: Mean over rows of the suspect's preference for the victim's label, in deviations of other models.
        z: The score, in deviations of the independent models' from their mean.
        independent: The score of each independent model that calibrates.
    """

    rows: int
    shared: float
    score: float
    z: float
    independent: dict[str, float]

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        return [
            f"the suspect shares {self.shared:.1%} of {self.rows} errors of the victim; score {self.score:.2f}",
            *(f"independent model {name}: {found:.2f}" for name, found in self.independent.items()),
            f"z among the independent models: {self.z:.2f}",
            "next: give evidence, key, victim and rows to a judge, who chooses the errors by other models "
            "(judge-committed)",
        ]


@dataclass(frozen=True)
class OwnErrors(Committing):
    """The victim's own errors: does a suspect make those that other models do not make? (AAAI 2025).

    Attributes:
        rows: Maximum number of errors to show: the first ones.
        right: Share of the choosing models that must be right about a row.
        alpha: Significance level.
        tries: Number of suspects that the owner tested; multiplies the p-value.
    """

    rows: int = 200
    right: float = 0.85
    alpha: float = 0.01
    tries: int = 1

    def __post_init__(self) -> None:
        if self.rows < 2 or self.tries < 1 or not (0 < self.right <= 1 and 0 < self.alpha < 1):
            raise BadInput(f"rows must be at least 2, tries at least 1, right and alpha from 0 to 1, not {self}")

    def most_rows(self) -> MostRows:
        """Returns the maximum number of rows that the suspect is asked about."""
        return MostRows(suspect=self.rows)

    def check(self, suspect: Card, holdings: Rows) -> None:
        """Raises :class:`~wire.BadInput` if there are too few models, or one does not take the rows."""
        enough(holdings.independent, 2 * LEAST)
        if holdings.committed is not None:
            files = {"reference rows": holdings.reference.fingerprint}
            holdings.committed.rule.check("own-errors", files, self.committed())
        for card in (suspect, holdings.victim.card, *(model.card for model in holdings.independent.values())):
            if fault := misfit(holdings.reference.x, card) or label_misfit(holdings.reference.y, card):
                raise BadInput(f"model {card.model} does not take the reference rows: {fault}")

    def prepare(self, holdings: Rows, rng: np.random.Generator) -> Study:
        """Finds the victim's errors on rows that the first half of the independent models gets right."""
        reference, names = holdings.reference, list(holdings.independent)
        assert reference.y is not None
        choosing, calibrating = names[: len(names) // 2], names[len(names) // 2 :]
        labels = holdings.victim.query(reference.x).labels
        erring = np.flatnonzero(labels != reference.y)
        right = [holdings.independent[name].query(reference.x[erring]).labels for name in choosing]
        agreed = np.mean([told == reference.y[erring] for told in right], axis=0) >= self.right
        chosen = erring[agreed][: self.rows]
        if len(chosen) < 2:
            raise BadInput(f"{len(chosen)} errors of the victim are its own; expected at least 2: give more rows")
        x, wrong = reference.x[chosen], labels[chosen]
        true = reference.y[chosen]
        told = {name: holdings.independent[name].query(x) for name in calibrating}
        return Study(x, wrong, true, told, receipt_of(holdings.committed))

    def accuse(self, suspect: Oracle, study: Study, rng: np.random.Generator) -> Evidence[Errors]:
        """Queries the suspect about the errors."""
        before, answer = suspect.spent, suspect.query(study.x)
        by_labels = any(one.probs is None for one in (answer, *study.told.values()))
        others = np.stack([signal(one, study.wrong, study.y, by_labels) for one in study.told.values()])
        own = score(signal(answer, study.wrong, study.y, by_labels), others)
        scores = [score(one, np.delete(others, place, axis=0)) for place, one in enumerate(others)]
        z, p = beyond(own, scores)
        details = Errors(
            len(study.x),
            float((answer.labels == study.wrong).mean()),
            own,
            z,
            dict(zip(study.told, scores, strict=True)),
        )
        return evidence("own-errors", self, p, suspect, before, CAUTION, details, study.receipt)


def signal(answer: Answer, wrong: Labels, y: Labels, by_labels: bool) -> Array:
    """Returns how strongly a model prefers the victim's wrong labels to other wrong ones.

    Args:
        answer: The model's answer about n rows.
        wrong: The labels, ``(n,)``.
        y: The true labels, ``(n,)``.
        by_labels: Whether only labels count.

    Returns:
        The logarithm of the odds, ``(n,)``; by labels, 1 for the wrong one, -1 for another, 0 for the true one.
    """
    if by_labels or answer.probs is None:
        return np.where(answer.labels == wrong, 1.0, np.where(answer.labels == y, 0.0, -1.0))
    rows, p = np.arange(len(wrong)), np.clip(np.nan_to_num(answer.probs.astype(np.float64)), FLOOR, 1)
    others = p.sum(axis=1) - p[rows, wrong] - p[rows, y]
    return np.asarray(np.log(p[rows, wrong]) - np.log(np.maximum(others, FLOOR)))


def score(own: Array, others: Array) -> float:
    """Returns the mean over rows of a signal's distance from those of other models, ``(m, n)``, in deviations.

    A few models do not suffice to estimate the deviation of a single row, so its variance is averaged with that of
    all rows.
    """
    variance = others.var(axis=0)
    deviation = np.sqrt(0.5 * (variance + variance.mean())) + 1e-12
    return float(((own - others.mean(axis=0)) / deviation).mean())
