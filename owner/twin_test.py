"""The twin test: tests whether a suspect sides with the victim where the victim and its twins disagree.

A twin is trained by the victim's recipe, from another secret seed and on other random rows of the owner's data.
The null hypothesis is that the suspect does not depend on the seed and the rows that the victim drew. It may have
been trained on the same data, or stolen from a twin, but not from the victim. Then victim and twins are M + 1
draws of one lottery, made without a look at the suspect, and each of them is equally likely to be the one most
similar to it. That holds whatever the suspect is, whatever it is asked and however similarity is measured, as long
as all M + 1 models are treated alike. So the p-value of the victim's rank is exact; it is at least 1 / (M + 1).
Student's t compares the victim's similarity with those of its twins, and goes below that, but is approximate.

The suspect is asked about reference rows on which the M + 1 models disagree, and about near copies of these rows.
It is never asked about rows that trained one of the models: they are no longer alike then. Most twins know a row
that the victim did not see, and any good model would side with the victim or against it.

Source: this project. The idea of an exact test against exchangeable models is that of Zhu, Ahmed, Kuditipudi,
Liang, "Independence Tests for Language Models", ICML 2025.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from owner.evidence import Evidence
from owner.ownership import About, MostRows
from owner.twins.answers import Answers, Holdings, Study
from owner.twins.near_copies import COPIES, near_copies
from owner.twins.ranks import CAUTION, Ranks
from wire import Array, BadInput, Card, Labels, Malformed, Oracle


@dataclass(frozen=True)
class TwinTest:
    """The twin test: is the victim, of M + 1 exchangeable models, the most similar to the suspect?

    Attributes:
        rows: Maximum number of reference rows to choose: those of greatest dispute.
        copies: Whether to query eight near copies of each chosen row too, if the rows are images.
        ridge: Regularisation of the similarities, as a share of the models' mean squared deviation.
        alpha: Significance level.
        margin: Amount by which the suspect's z must exceed those of all independent models.
        tries: Number of suspects that the owner tested; multiplies the p-values, as the number of commitments in
            the owner's log does.
    """

    rows: int = 1000
    copies: bool = True
    ridge: float = 0.1
    alpha: float = 0.01
    margin: float = 1.0
    tries: int = 1

    def __post_init__(self) -> None:
        if self.rows < 1 or self.tries < 1:
            raise BadInput(f"rows and tries must be at least 1, not {self.rows} and {self.tries}")
        if not (0 < self.ridge < np.inf and 0 < self.alpha < 1 and 0 <= self.margin < np.inf):
            raise BadInput(
                f"ridge must be greater than 0, alpha between 0 and 1 and margin at least 0, not {self.ridge}, "
                f"{self.alpha} and {self.margin}"
            )

    def most_rows(self) -> MostRows:
        """Returns the maximum number of rows that the suspect is asked about."""
        return MostRows(victim=0, suspect=self.rows * (1 + COPIES * self.copies))

    def committed(self) -> dict[str, int | float]:
        """Returns the settings to commit to before there is a suspect: all but ``tries``."""
        return {name: value for name, value in asdict(self).items() if name != "tries"}

    def check(self, suspect: Card, holdings: Holdings) -> None:
        """Raises :class:`~wire.BadInput` if the settings are not those committed to, or a model does not fit."""
        holdings.twins.check_settings("twin-test", self.committed())
        for card in (suspect, *(model.card for model in holdings.independent.values())):
            holdings.twins.check_fit(card)

    def prepare(self, holdings: Holdings, rng: np.random.Generator) -> Study:
        """Chooses the queries, and asks the victim and its twins about them."""
        twins, reference = holdings.twins, holdings.twins.reference
        disputed = dispute(twins.labels, twins.card.classes)
        chosen = np.argsort(-disputed, kind="stable")[: min(self.rows, np.count_nonzero(disputed))]
        if not len(chosen):
            raise BadInput(f"all {twins.count} models agree about all {len(reference)} reference rows")
        x = self._queries(reference.x[chosen], twins.card)
        return Study(holdings, Answers(chosen, twins.predict(x)), x)

    def accuse(self, suspect: Oracle, study: Study, rng: np.random.Generator) -> Evidence[Ranks]:
        """Queries the suspect for labels, and ranks the victim and its twins by similarity to it."""
        twins, before = study.holdings.twins, suspect.spent
        tries = self.tries * twins.commitments
        labels = suspect.collect(study.x).labels
        if suspect.ended is not None and not len(labels):
            raise suspect.ended
        similarities = self._similarities(study, suspect.card.model, labels)
        found, independent = ranking(similarities, twins.victim), dict[str, Ranking]()
        for name, model in study.holdings.independent.items():
            others = self._similarities(study, name, model.query(study.x[: len(labels)]).labels)
            independent[name] = ranking(others, twins.victim)
        limit = max((other.z + self.margin for other in independent.values()), default=None)
        accused = self._accuses(found, tries) and (limit is None or found.z > limit)
        exact = tries / twins.count <= self.alpha
        return Evidence(
            method="twin-test",
            verdict="accused" if accused else "inconclusive",
            p_value=min(1.0, tries * (found.p_rank if exact else found.p_t)),
            alpha=self.alpha,
            suspect=suspect.card.model,
            suspect_queries=suspect.spent - before,
            settings=asdict(self),
            caution=CAUTION,
            details=Ranks(
                **found._asdict(),
                root=twins.root,
                models=twins.count,
                rests_on="rank" if exact else "t",
                limit=limit,
                independent={name: other.z for name, other in independent.items()},
                independent_accused=sum(self._accuses(other, tries) for other in independent.values()),
                chosen=len(study.answers.chosen),
                similarities=tuple(similarities.tolist()),
                labels=tuple(labels.tolist()),
                stopped=None if suspect.ended is None else str(suspect.ended),
                guessable_seed=twins.guessable_seed,
                commitments=twins.commitments,
            ),
            receipt=twins.receipt,
        )

    def save_study(self, study: Study, path: Path, about: About) -> None:
        """Writes the models' answers."""
        study.answers.save(path, study.holdings.twins.root)

    def load_study(self, path: Path, holdings: Holdings, about: About) -> Study:
        """Reads the models' answers, or raises :class:`~wire.BadInput` if they belong to another study."""
        answers = Answers.load(path, holdings.twins.root)
        x = self._queries(holdings.twins.reference.x[answers.chosen], holdings.twins.card)
        return Study(holdings, answers, x)

    def _queries(self, x: Array, card: Card) -> Array:
        images = self.copies and len(card.input_shape) == 3
        return np.concatenate([x, near_copies(x, card)]) if images else x

    def _similarities(self, study: Study, name: str, labels: Labels) -> Array:
        probs = study.answers.probs[:, : len(labels)]
        if labels.max() >= probs.shape[2]:
            raise Malformed(f"{name} answered with class {labels.max()}; expected 0 to {probs.shape[2] - 1}")
        return similarity(probs, labels, self.ridge)

    def _accuses(self, found: Ranking, tries: int) -> bool:
        return found.rank == 1 and tries * found.p_t <= self.alpha


def dispute(labels: Labels, classes: int) -> Array:
    """Returns how much models disagree about rows, ``(n,)``: the Gini impurity of their labels.

    Args:
        labels: The models' labels, ``(M + 1, n)``.
        classes: Number of classes.
    """
    shares = np.stack([(labels == label).mean(axis=0) for label in range(classes)])
    return np.asarray(1 - (shares**2).sum(axis=0))


def similarity(probs: Array, labels: Labels, ridge: float) -> Array:
    """Returns how much each model explains of a suspect: T, the coefficients of a ridge regression.

    The suspect's deviations from the mean model, over all rows and classes, are regressed on those of the models.

    Args:
        probs: The models' probabilities, ``(M + 1, n, k)``.
        labels: The suspect's labels, ``(n,)``, or those of several suspects, ``(s, n)``.
        ridge: Regularisation, as a share of the models' mean squared deviation.

    Returns:
        The similarities ``(M + 1,)``, or those of several suspects, ``(s, M + 1)``.
    """
    mean = probs.mean(axis=0)
    r = (probs - mean).reshape(len(probs), -1).astype(np.float64)
    q = (np.eye(probs.shape[2])[labels] - mean).reshape(*labels.shape[:-1], -1)
    gram = r @ r.T
    penalty = ridge * np.trace(gram) / len(gram)
    return np.asarray(np.linalg.solve(gram + penalty * np.eye(len(gram)), r @ q.T).T)


class Ranking(NamedTuple):
    """The victim's place among its twins; the fields are those of :class:`~owner.twins.ranks.Ranks`."""

    rank: int
    p_rank: float
    z: float
    p_t: float


def ranking(similarities: Array, victim: int) -> Ranking:
    """Compares the similarity of the victim, by its number, with those of its twins, ``(M + 1,)`` together."""
    own, others = similarities[victim], np.delete(similarities, victim)
    rank, m = 1 + int((others >= own).sum()), len(others)
    z = (own - others.mean()) / (others.std(ddof=1) * np.sqrt(1 + 1 / m))
    return Ranking(rank, rank / (m + 1), float(z), float(stats.t.sf(z, m - 1)))
