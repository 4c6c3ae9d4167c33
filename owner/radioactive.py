"""Radioactive data, by answers alone: is a suspect less surprised by marked images than by their originals?

Source: Sablayrolles, Douze, Schmid, Jegou, "Radioactive data: tracing through training", ICML 2020, section 4.3
(black-box: the difference of the losses on vanilla and on marked images). The mark is
``defenses/training/radioactive.py``.

What differs from the paper: it takes a difference above zero for evidence. But marked images lie in a direction of
their own, and independent models too may find them easier. So the suspect's difference must also exceed those of
independent models, by the t distribution for one more draw from the same population; the larger p-value counts.
The comparison alone would not do: smaller and worse models find marked images less hard than good ones do, and lie
beyond these (``experiments/claims/radioactive.py`` counts them).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from owner.commitment import Receipt
from owner.evidence import Evidence
from owner.one_more import beyond, enough, evidence
from owner.ownership import MostRows
from owner.radioactive_key import RadioactiveKey
from wire import Answer, Array, BadInput, Card, Oracle
from zoo.data.pool import Pool

FLOOR = 1e-6  # of a probability
CAUTION = (
    "The p-value holds if the independent models resemble the suspect in all but the marked rows, and if rows and "
    "secret were fixed before there was a suspect. Each test shows marked rows and their originals to the suspect."
)


@dataclass(frozen=True)
class Pairs:
    """The owner's holdings.

    Attributes:
        vanilla: Original images with their labels.
        marked: The same images with the mark, as they were published or trained on, in the same order.
        independent: Models that were not trained on the marked images, by name.
        radioactive: The key, if the owner committed to it.
    """

    vanilla: Pool
    marked: Pool
    independent: Mapping[str, Oracle]
    radioactive: RadioactiveKey | None = None


@dataclass(frozen=True, eq=False)
class Study:
    """The images to show, and what independent models make of them.

    Attributes:
        vanilla: Originals.
        marked: The same images with the mark.
        independent: Loss on originals less loss on marked images of each independent model.
        receipt: The proof that the owner's log has the commitment; None without a log.
    """

    vanilla: Pool
    marked: Pool
    independent: Mapping[str, float]
    receipt: Receipt | None = None


@dataclass(frozen=True)
class Surprise:
    """How much less a suspect is surprised by marked images.

    Attributes:
        rows: Number of pairs that were shown.
        difference: Mean loss on originals less mean loss on marked images.
        p_paired: P-value of the published comparison of the difference with 0 (a paired t-test).
        p_models: P-value of the comparison with the independent models.
        z: The difference, in standard deviations of the independent models' from their mean.
        independent: The difference of each independent model.
        commitments: Number of the owner's commitments, which multiplies the p-value.
    """

    rows: int
    difference: float
    p_paired: float
    p_models: float
    z: float
    independent: dict[str, float]
    commitments: int = 1

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        return [
            f"loss on {self.rows} originals less loss on marked images: {self.difference:.4f} (against 0: p = "
            f"{self.p_paired:.3g})",
            *(f"independent model {name}: {found:.4f}" for name, found in self.independent.items()),
            f"z among the independent models: {self.z:.2f}, p = {self.p_models:.3g}",
            f"the larger p counts, times the number of commitments in the log, {self.commitments}",
            "next: give the evidence, the key's folder and the marker to a judge (judge-radioactive)",
        ]


@dataclass(frozen=True)
class RadioactiveTest:
    """Radioactive data: is a suspect less surprised by marked images than other models are? (ICML 2020).

    Attributes:
        rows: Maximum number of pairs to show.
        alpha: Significance level.
        tries: Number of suspects and of marks that the owner tried; multiplies the p-value.
    """

    rows: int = 500
    alpha: float = 0.01
    tries: int = 1

    def __post_init__(self) -> None:
        if self.rows < 2 or self.tries < 1 or not 0 < self.alpha < 1:
            raise BadInput(
                f"rows must be at least 2, tries at least 1 and alpha between 0 and 1, not {self.rows}, "
                f"{self.tries} and {self.alpha}"
            )

    def most_rows(self) -> MostRows:
        """Returns the maximum number of rows that the suspect is asked about."""
        return MostRows(victim=0, suspect=2 * self.rows)

    def check(self, suspect: Card, holdings: Pairs) -> None:
        """Raises :class:`~wire.BadInput` if the images are no pairs, or a model does not take them."""
        vanilla, marked = holdings.vanilla, holdings.marked
        labelled = vanilla.y is not None and marked.y is not None and np.array_equal(vanilla.y, marked.y)
        if not labelled or vanilla.x.shape != marked.x.shape:
            raise BadInput("expected original and marked images in the same order, with the same labels")
        enough(holdings.independent)
        for card in (suspect, *(model.card for model in holdings.independent.values())):
            if card.input_shape != vanilla.input_shape or not card.tells_probs:
                raise BadInput(
                    f"model {card.model} takes rows {card.input_shape}"
                    f"{'' if card.tells_probs else ' and gives labels alone'}; expected "
                    f"{vanilla.input_shape}, and probabilities"
                )

    def prepare(self, holdings: Pairs, rng: np.random.Generator) -> Study:
        """Measures the independent models."""
        chosen = np.sort(rng.permutation(len(holdings.vanilla))[: self.rows])
        vanilla, marked = holdings.vanilla.take(chosen), holdings.marked.take(chosen)
        others = {
            name: float(gains(model, vanilla, marked).mean()) for name, model in holdings.independent.items()
        }
        key = holdings.radioactive
        return Study(vanilla, marked, others, None if key is None else key.receipt)

    def accuse(self, suspect: Oracle, study: Study, rng: np.random.Generator) -> Evidence[Surprise]:
        """Queries the suspect with originals and marked images."""
        before, gain = suspect.spent, gains(suspect, study.vanilla, study.marked)
        z, p = beyond(float(gain.mean()), list(study.independent.values()))
        commitments = 1 if study.receipt is None else study.receipt.commitments
        p_paired = paired(gain)
        details = Surprise(len(gain), float(gain.mean()), p_paired, p, z, dict(study.independent), commitments)
        larger = commitments * max(p, p_paired)
        return evidence("radioactive", self, larger, suspect, before, CAUTION, details, study.receipt)


def gains(model: Oracle, vanilla: Pool, marked: Pool) -> Array:
    """Returns the loss on each original less that on its marked image, ``(n,)``."""
    assert vanilla.y is not None
    return losses(model.query(vanilla.x), vanilla.y) - losses(model.query(marked.x), vanilla.y)


def losses(answer: Answer, y: Array) -> Array:
    """Returns the cross-entropy of each answer, ``(n,)``; a withheld or vanishing probability counts as 1e-6."""
    if answer.probs is None:
        raise BadInput("the model gives labels alone; this test needs probabilities")
    told = np.nan_to_num(answer.probs[np.arange(len(y)), y].astype(np.float64))
    return np.asarray(-np.log(np.clip(told, FLOOR, 1)))


def paired(gain: Array) -> float:
    """Returns the one-sided p-value of the published comparison with 0."""
    if np.ptp(gain) == 0:
        return 1.0
    return float(stats.ttest_1samp(gain, 0, alternative="greater").pvalue)
