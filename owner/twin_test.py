"""The twin test: does a suspect side with the victim where the victim and its twins disagree?

Each of M twins is trained by the victim's recipe, from another secret seed and on other random rows of the owner's
data. The victim was made in the same way, so it is one of M + 1 draws of a lottery, and nothing but the draw tells
it from its twins.

Why the test is exact: suppose that the suspect was made without the victim. Then the suspect was the same
whichever of the M + 1 models had become the victim. So give each model a number that says how similar it is to the
suspect, and sort the models by it: the victim is equally likely to stand in any of the M + 1 places. It comes
first with probability 1 / (M + 1), which is the p-value of coming first. Nothing was assumed about the suspect,
the queries or the measure of similarity. They decide only how often thefts are found. One condition is left: all
M + 1 models are treated alike. Three things would break it:

- Queries that trained some of the models. Most twins know a row that the victim never saw, and any good model
  would side with one camp. So the queries are reference rows, which trained none, and near copies of them.
- Queries or measures picked by the victim's own answers. Here all M + 1 models choose together.
- Models picked after a look at the suspect. So the owner commits to all of them beforehand (``commitment.py``).

With few twins the rank cannot reach a low p-value. Student's t, which asks how far the victim's similarity lies
beyond those of its twins, can, but is approximate. Both hold over victims: an unlucky victim may resemble a whole
family of innocent models, so the suspect must also resemble it more than independent models do, by a margin. These
share only a part of the family's luck, which is why z must exceed 3 whatever they are: over victims, the mean z of
a family has a deviation of 0.8, and so has z within it (measured), and 2 * 0.8 + 1.9 * 0.8 = 3 bounds the family's
share of accusations at 3 % for all but one victim in forty.

Source: this project. The idea of an exact test against exchangeable models is that of Zhu, Ahmed, Kuditipudi,
Liang, "Independence Tests for Language Models", ICML 2025.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
from scipy import stats

from owner.evidence import Evidence
from owner.ownership import MostRows
from owner.twins.answers import Answers, Holdings, Study
from owner.twins.near_copies import COPIES
from owner.twins.ranks import CAUTION, Ranks
from owner.twins.rule import Rule
from wire import Array, BadInput, Labels, Oracle


@dataclass(frozen=True)
class TwinTest(Rule):
    """The twin test: is the victim, of M + 1 exchangeable models, the most similar to the suspect?

    Attributes:
        rows: Maximum number of reference rows to choose: those of greatest dispute.
        copies: Whether to query eight near copies of each chosen row too, if the rows are images.
        ridge: Regularisation of the similarities, as a share of the models' mean squared deviation.
        alpha: Significance level.
        margin: Amount by which the suspect's z must exceed those of all independent models.
        least: Amount that the suspect's z must exceed in any case.
        tries: Number of suspects that the owner tested; multiplies the p-values, as the number of commitments in
            the owner's log does.
    """

    rows: int = 1000
    copies: bool = True
    ridge: float = 0.1
    alpha: float = 0.01
    margin: float = 1.0
    least: float = 3.0
    tries: int = 1

    def most_rows(self) -> MostRows:
        """Returns the maximum number of rows that the suspect is asked about."""
        return MostRows(victim=0, suspect=self.rows * (1 + COPIES * self.copies))

    def line(self, independent: Iterable[float]) -> float:
        """Returns the judge's line, which z must exceed, from the z of independent models."""
        return max([self.least, *(z + self.margin for z in independent)])

    def prepare(self, holdings: Holdings, rng: np.random.Generator) -> Study:
        """Chooses the queries, and asks the victim and its twins about them."""
        twins, reference = holdings.twins, holdings.twins.reference
        disputed = dispute(twins.labels, twins.card.classes)
        chosen = np.argsort(-disputed, kind="stable")[: min(self.rows, np.count_nonzero(disputed))]
        if not len(chosen):
            raise BadInput(f"all {twins.count} models agree about all {len(reference)} reference rows")
        x = self.queries(reference.x[chosen], twins.card)
        return Study(holdings, Answers(chosen, twins.predict(x)), x)

    def accuse(self, suspect: Oracle, study: Study, rng: np.random.Generator) -> Evidence[Ranks]:
        """Queries the suspect for labels, and ranks the victim and its twins by similarity to it."""
        before, labels = suspect.spent, study.ask(suspect)
        probs, victim = study.answers.probs[:, : len(labels)], study.holdings.twins.victim
        similarities = similarity(probs, labels, self.ridge)
        found, independent = ranking(similarities, victim), dict[str, Ranking]()
        for name, model in study.holdings.independent.items():
            theirs = study.ask_again(model, len(labels))
            independent[name] = ranking(similarity(probs, theirs, self.ridge), victim)
        limit = self.line(other.z for other in independent.values())
        tries = self.tries * study.holdings.twins.commitments
        exact = tries / len(probs) <= self.alpha
        accused = found.rank == 1 and tries * found.p_t <= self.alpha and found.z > limit
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
                rests_on="rank" if exact else "t",
                limit=limit,
                independent={name: other.z for name, other in independent.items()},
                independent_accused=sum(
                    other.rank == 1 and tries * other.p_t <= self.alpha for other in independent.values()
                ),
                similarities=tuple(similarities.tolist()),
                labels=tuple(labels.tolist()),
                stopped=None if suspect.ended is None else str(suspect.ended),
                **study.about,
            ),
            receipt=study.holdings.twins.receipt,
        )


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
