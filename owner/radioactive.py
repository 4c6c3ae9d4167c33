"""Radioactive data, by answers alone: is a suspect less surprised by marked images than by their originals?

Source: Sablayrolles, Douze, Schmid, Jegou, "Radioactive data: tracing through training", ICML 2020, section 4.3
(black-box: the difference of the losses on vanilla and on marked images). The mark is
``defenses/training/radioactive.py``.

What differs from the paper: it takes a difference above zero for evidence. But all images of a key share its luck:
marked images lie in a direction of their own, which independent models may find easier too, and a cheat looks for
a secret of which this is so. So where the owner committed to a key, the same images are marked by wrong keys too,
and the owner's must stand out among them (``wrong_keys.py``), whose rank has an exact p-value for any suspect.
Without a key, the suspect's difference must also exceed those of independent models, by the t distribution for one
more draw from the same population; the larger p-value counts. That comparison alone would not do: smaller and
worse models find marked images less hard than good ones do, and lie beyond these
(``experiments/claims/radioactive.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy import stats

from defenses.training.radioactive import Radioactive
from owner.commitment import Receipt
from owner.evidence import Evidence
from owner.one_more import beyond, enough, evidence
from owner.ownership import MostRows
from owner.scheme_key import Rule, SchemeKey, receipt_of
from owner.surprise import Surprise
from owner.wrong_keys import standing
from wire import Answer, Array, BadInput, Card, Oracle
from zoo import folder
from zoo.data.pool import Pool
from zoo.network import Network

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
        committed: The key, if the owner committed to it.
        marker: The network whose features were moved, to mark by wrong keys; None to compare with models alone.
    """

    vanilla: Pool
    marked: Pool
    independent: Mapping[str, Oracle]
    committed: SchemeKey | None = None
    marker: Network | None = None


@dataclass(frozen=True, eq=False)
class Study:
    """The images to show, and what independent models make of them.

    Attributes:
        vanilla: Originals.
        marked: The same images with the mark.
        independent: Mean loss on originals less that on marked images of each independent model, by key: the
            owner's first, ``(1 + wrong,)``.
        wrong: The same images with the mark of each wrong key, ``(n, *shape)``.
        receipt: The proof that the owner's log has the commitment; None without a log.
    """

    vanilla: Pool
    marked: Pool
    independent: Mapping[str, Array]
    wrong: Sequence[Array]
    receipt: Receipt | None = None

    def gains(self, model: Oracle) -> Array:
        """Returns a model's loss on originals less that on images marked by each key, ``(1 + wrong, n)``."""
        vanilla = self.vanilla
        assert vanilla.y is not None
        x = np.concatenate([vanilla.x, self.marked.x, *self.wrong])
        loss = losses(model.query(x), np.tile(vanilla.y, 2 + len(self.wrong))).reshape(-1, len(vanilla))
        return np.asarray(loss[0] - loss[1:])


@dataclass(frozen=True)
class RadioactiveTest:
    """Radioactive data: is a suspect less surprised by marked images than other models are? (ICML 2020).

    Attributes:
        rows: Maximum number of pairs to show.
        wrong: Number of wrong keys by which the same images are marked, if the owner has a key and a marker.
        alpha: Significance level.
        tries: Number of suspects and of marks that the owner tried; multiplies the p-value.
    """

    rows: int = 100
    wrong: int = 31
    alpha: float = 0.01
    tries: int = 1

    def __post_init__(self) -> None:
        if self.rows < 2 or self.wrong < 2 or self.tries < 1 or not 0 < self.alpha < 1:
            raise BadInput(
                f"rows and wrong must be at least 2, tries at least 1 and alpha between 0 and 1, not {self.rows}, "
                f"{self.wrong}, {self.tries} and {self.alpha}"
            )

    def most_rows(self) -> MostRows:
        """Returns the maximum number of rows that the suspect is asked about."""
        return MostRows(victim=0, suspect=(2 + self.wrong) * self.rows)

    def check(self, suspect: Card, holdings: Pairs) -> None:
        """Raises :class:`~wire.BadInput` if the images are no pairs, or a model does not take them."""
        vanilla, marked = holdings.vanilla, holdings.marked
        labelled = vanilla.y is not None and marked.y is not None and np.array_equal(vanilla.y, marked.y)
        if not labelled or vanilla.x.shape != marked.x.shape:
            raise BadInput("expected original and marked images in the same order, with the same labels")
        enough(holdings.independent)
        if holdings.committed is not None and holdings.marker is not None:
            holdings.committed.rule.check("radioactive", files_of(vanilla, holdings.marker))
        for card in (suspect, *(model.card for model in holdings.independent.values())):
            if card.input_shape != vanilla.input_shape or not card.tells_probs:
                raise BadInput(
                    f"model {card.model} takes rows {card.input_shape}"
                    f"{'' if card.tells_probs else ' and gives labels alone'}; expected "
                    f"{vanilla.input_shape}, and probabilities"
                )

    def prepare(self, holdings: Pairs, rng: np.random.Generator) -> Study:
        """Marks the images by wrong keys, and asks the independent models."""
        key, marker = holdings.committed, holdings.marker
        rng = rng if key is None else key.rng()
        chosen = np.sort(rng.permutation(len(holdings.vanilla))[: self.rows])
        vanilla, marked = holdings.vanilla.take(chosen), holdings.marked.take(chosen)
        seeds = [] if key is None or marker is None else key.wrong(self.wrong)
        wrong = tuple(marked_by(key, vanilla, marker, seed).x for seed in seeds)  # type: ignore[arg-type]
        asked = Study(vanilla, marked, {}, wrong, receipt_of(key))
        others = {name: asked.gains(model).mean(axis=1) for name, model in holdings.independent.items()}
        return replace(asked, independent=others)

    def accuse(self, suspect: Oracle, study: Study, rng: np.random.Generator) -> Evidence[Surprise]:
        """Queries the suspect with originals and images marked by all keys."""
        before, gains = suspect.spent, study.gains(suspect)
        own, others = gains.mean(axis=1), list(study.independent.values())
        z, p_models = beyond(float(own[0]), [float(other[0]) for other in others])
        p_paired, found = paired(gains[0]), standing(own, others)
        details = Surprise(
            rows=gains.shape[1],
            difference=float(own[0]),
            p_paired=p_paired,
            p_models=p_models,
            z=z,
            independent={name: float(other[0]) for name, other in study.independent.items()},
            wrong=tuple(own[1:].tolist()),
            rank=found.rank,
            z_keys=found.z,
            p_keys=found.p,
            commitments=1 if study.receipt is None else study.receipt.commitments,
        )
        p = found.p if study.wrong else max(p_models, p_paired)
        return evidence("radioactive", self, p, suspect, before, CAUTION, details, study.receipt)


def key_of(mark: Radioactive, vanilla: Pool, marker: Network, secret: str) -> SchemeKey:
    """Returns the key for images that are going to be marked; the secret is 32 bytes in hexadecimal."""
    return SchemeKey(secret, Rule("radioactive", asdict(mark), files_of(vanilla, marker)))


def files_of(vanilla: Pool, marker: Network) -> dict[str, str]:
    """Returns the hashes to which a key is bound."""
    return {"original images": vanilla.fingerprint, "marker": folder.fingerprint(marker)}


def marked_by(key: SchemeKey, vanilla: Pool, marker: Network, seed: str) -> Pool:
    """Returns images with the mark of a seed: the key's own, or that of a wrong key."""
    return Radioactive(**key.rule.settings).marked(vanilla, marker, seed)


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
