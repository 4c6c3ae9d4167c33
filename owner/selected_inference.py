"""Selected dataset inference: tests whether a suspect knows which of the owner's images were private.

The owner divided the images at random into private ones, which trained the victim, and unseen ones. The null
hypothesis is that the suspect does not depend on this division. Then all divisions are alike to it, and a
permutation test is exact, for any choice and any weights of images that do not depend on the division either.

A theft keeps little of the membership of a single image. So images and weights are learnt from the twins, whose
divisions the owner knows, and from simulated thefts of them: which images betray their membership through a theft,
what their signal is on average, and how much it varies. The victim is not used.

Source: this project. Calibrating a signal by models with and without an image follows Watson, Guo, Cormode,
Sablayrolles, "On the Importance of Difficulty Calibration in Membership Inference Attacks", ICLR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from owner.evidence import Evidence
from owner.ownership import About, Committing, MostRows
from owner.twins.known import Ask, Known
from owner.twins.selection import CAUTION, Selected, Selection
from owner.twins.variants import variants
from owner.twins.weights import hardness_of, learnt, most_telling
from wire import Array, BadInput, Card, Labels, Malformed, Oracle
from zoo.data.pool import Pool

CLIP = 1e-6
WIDER = 5  # with labels: images whose variants are tried, for each that is kept


@dataclass(frozen=True)
class Holdings:
    """The owner's holdings for selected dataset inference.

    Attributes:
        known: The owner's images, the twins and the simulated thefts.
        independent: Models known not to be stolen, by name.
    """

    known: Known
    independent: Mapping[str, Oracle]


@dataclass(frozen=True, eq=False)
class Study:
    """The study that the tests of all suspects share.

    Attributes:
        holdings: The owner's holdings.
        selection: The images to show, and their weights.
    """

    holdings: Holdings
    selection: Selection


@dataclass(frozen=True)
class SelectedInference(Committing):
    """Selected dataset inference: does a suspect tell private images that betray themselves from unseen ones?

    Attributes:
        images: Number of private images, and of unseen images, to show to the suspect.
        candidates: Number of images that betray themselves most, from which those shown are drawn.
        labels: Whether to use only labels, for many variants of an image, in place of its probabilities.
        variants: Rows to query per image with ``labels``: the image and variants of it.
        permutations: Number of random divisions that give the p-value.
        alpha: Significance level.
        tries: Number of suspects that the owner tested; multiplies the p-value, as the number of commitments in
            the owner's log does.
    """

    images: int = 60
    candidates: int = 400
    labels: bool = False
    variants: int = 60
    permutations: int = 9999
    alpha: float = 0.01
    tries: int = 1

    def __post_init__(self) -> None:
        least = {"images": 2, "candidates": 4, "variants": 2, "permutations": 99, "tries": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise BadInput(f"{name} is {getattr(self, name)}, but must be at least {value}")
        if not 0 < self.alpha < 1:
            raise BadInput(f"alpha must lie between 0 and 1, not {self.alpha}")

    def most_rows(self) -> MostRows:
        """Returns the maximum number of rows that the suspect is asked about."""
        return MostRows(victim=0, suspect=2 * self.images * (self.variants if self.labels else 1))

    def check(self, suspect: Card, holdings: Holdings) -> None:
        """Raises :class:`~wire.BadInput` if the settings are not those committed to, or a model does not fit."""
        holdings.known.twins.check_settings("selected-inference", self.committed())
        for card in (suspect, *(model.card for model in holdings.independent.values())):
            holdings.known.twins.check_fit(card)
            if not self.labels and not (card.tells_probs and card.top_k is None):
                raise BadInput(f"{card.model} does not disclose all probabilities: prepare a study for labels")

    def prepare(self, holdings: Holdings, rng: np.random.Generator) -> Study:
        """Learns from twins and simulated thefts which images to ask about, and how to weigh them."""
        known, every = holdings.known, np.arange(len(holdings.known.pool))
        odds = replace(self, labels=False).signal
        hardness = hardness_of(known.signals(known.twins.models[1:], odds, every), known.twin_bits)
        weights = learnt(hardness, known.signals(known.thefts, odds, every), known.theft_bits, known.share)
        kept = most_telling(weights, self.candidates * (WIDER if self.labels else 1))
        weights = weights.take(kept)
        if self.labels:
            signals = known.signals(known.thefts, self.signal, kept)
            weights = learnt(hardness.take(kept), signals, known.theft_bits[:, kept], known.share)
            best = most_telling(weights, self.candidates)
            kept, weights = kept[best], weights.take(best)
        chosen = known.drawn(kept, self.images)
        weights = weights.take(chosen)
        return Study(holdings, Selection(kept[chosen], kept[chosen] < known.private, *weights))

    def accuse(self, suspect: Oracle, study: Study, rng: np.random.Generator) -> Evidence[Selected]:
        """Queries the suspect about the chosen images, and permutes their division."""
        before, found = suspect.spent, self._tested(suspect, study)
        others = {name: self._tested(model, study).p for name, model in study.holdings.independent.items()}
        twins = study.holdings.known.twins
        tries = self.tries * twins.commitments
        p = min(1.0, tries * found.p)
        return Evidence(
            method="selected-inference",
            verdict="accused" if p <= self.alpha else "inconclusive",
            p_value=p,
            alpha=self.alpha,
            suspect=suspect.card.model,
            suspect_queries=suspect.spent - before,
            settings=asdict(self),
            caution=CAUTION,
            details=Selected(
                root=twins.root,
                statistic=found.statistic,
                z=found.z,
                samples_exposed=int(study.selection.private.sum()),
                independent=others,
                independent_accused=sum(tries * other <= self.alpha for other in others.values()),
                commitments=twins.commitments,
            ),
            receipt=twins.receipt,
        )

    def signal(self, ask: Ask, x: Array, y: Labels, reference: Pool) -> Array:
        """Returns what a model's answers say of each image's membership: its log odds, or its steadiness.

        Args:
            ask: The model.
            x: Images, ``(n, *input_shape)``.
            y: Their true labels, ``(n,)``.
            reference: Other rows, to mix variants from.

        Returns:
            The log odds of the true label, or the probit of the share of variants that keep it, ``(n,)``.
        """
        if not self.labels:
            answer = ask(x)
            if answer.probs is None or np.isnan(answer.probs).any():
                raise Malformed("the model withholds probabilities; expected all of them")
            p = np.clip(answer.probs[np.arange(len(y)), y].astype(np.float64), CLIP, 1 - CLIP)
            return np.asarray(np.log(p) - np.log1p(-p))
        rows = variants(x, reference, self.variants)
        kept = (ask(rows).labels.reshape(len(x), -1) == y[:, None]).sum(axis=1)
        return np.asarray(ndtri((kept + 0.5) / (self.variants + 1)))

    def save_study(self, study: Study, path: Path, about: About) -> None:
        """Writes the selection."""
        study.selection.save(path, study.holdings.known.twins.root)

    def load_study(self, path: Path, holdings: Holdings, about: About) -> Study:
        """Reads the selection, or raises :class:`~wire.BadInput` if it belongs to another study."""
        return Study(holdings, Selection.load(path, holdings.known.twins.root))

    def _tested(self, model: Oracle, study: Study) -> Permuted:
        known, chosen = study.holdings.known, study.selection
        f = self.signal(
            model.query, known.pool.x[chosen.images], known.truth[chosen.images], known.twins.reference
        )
        return permuted(chosen.d / chosen.var * (f - chosen.ex), chosen.private, self.permutations)


class Permuted(NamedTuple):
    """The result of :func:`permuted`."""

    statistic: float
    z: float
    p: float


def permuted(u: Array, private: Array, permutations: int) -> Permuted:
    """Tests H1: the sum of ``u`` over private images is greater than over as many images drawn at random.

    Args:
        u: Evidence of each image, ``(n,)``.
        private: Which of them are private, ``(n,)`` bool.
        permutations: Number of random divisions.
    """
    rng, n, m = np.random.default_rng(0), len(u), int(private.sum())
    t = float(u[private].sum())
    sums = np.array([u[rng.permutation(n)[:m]].sum() for _ in range(permutations)])
    sd = np.sqrt(m * (n - m) / n * u.var(ddof=1)) or 1.0
    return Permuted(t, float((t - m * u.mean()) / sd), (1 + int((sums >= t - 1e-12).sum())) / (1 + permutations))
