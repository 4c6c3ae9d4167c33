"""Dataset inference: does a suspect treat the owner's private images unlike images that nobody trained on?

Maini, Yaghini, Papernot, "Dataset Inference: Ownership Resolution in Machine Learning", ICLR 2021, "Embedding
Generation" and "Ownership Tester"; black box, by labels alone.

Unlike in the authors' code, a row of the feature table holds the features of one image, and no image that fits the
regressor is held out: the published effects come from rows that mix images, and are larger.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from owner.dataset_inference.blind_walk import NORMS, blind_walk, box, directions
from owner.dataset_inference.embeddings import Study
from owner.dataset_inference.ownership_tester import fit_regressor, rows, standardiser, welch
from owner.evidence import Evidence, Sides
from wire import Array, BadInput, Card, Oracle, WireError
from zoo.data.pool import Pool

BLOCK = 2**24  # values in the directions that are held at a time


@dataclass(frozen=True)
class DatasetInference:
    """Dataset inference through the Blind Walk (Maini et al., ICLR 2021).

    Attributes:
        fit_images: Images of each side whose walks on the victim fit the regressor.
        test_images: Other images of each side, whose walks on the suspect are scored.
        starts: Random directions per image and noise.
        uniform: Half the width of the uniform noise, as a share of the range of a feature.
        gaussian: Standard deviation of the Gaussian noise, as a share of the range of a feature.
        laplace: Scale of the Laplace noise, as a share of the range of a feature.
        walk_steps: Most steps of a walk.
        hidden: Hidden units of the regressor.
        fit_steps: Gradient steps that fit the regressor, each on all its images.
        lr: Their learning rate.
        alpha: Level below which a p-value accuses.
    """

    fit_images: int = 500
    test_images: int = 500
    starts: int = 10
    uniform: float = 0.005
    gaussian: float = 0.005
    laplace: float = 0.01
    walk_steps: int = 50
    hidden: int = 100
    fit_steps: int = 1000
    lr: float = 0.1
    alpha: float = 0.01

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            least = 2 if name.endswith("_images") else 1
            if isinstance(value, int) and value < least:
                raise BadInput(f"{name} is {value}, but must be at least {least}")
            if not 0 < value < math.inf or (name == "alpha" and not value < 1):
                most = 1 if name == "alpha" else "infinity"
                raise BadInput(f"{name} is {value}, but must be greater than 0 and less than {most}")

    def most_rows(self, images: int) -> int:
        """Returns the most rows that the walks of so many images of each side can take."""
        return 2 * images * self.starts * len(NORMS) * self.walk_steps

    def verify(
        self, suspect: Oracle, victim: Oracle, private: Pool, unseen: Pool, rng: np.random.Generator
    ) -> Evidence:
        """Tests whether a suspect derives from the victim's private images.

        Args:
            suspect: The suspected model; sees only the held-out images.
            victim: The owner's model; sees only the images that fit the regressor.
            private: Images on which the victim was trained, with their true labels.
            unseen: Images of the same distribution on which neither was trained, with theirs.
            rng: Source of randomness; its seed goes into the evidence.

        Raises:
            BadInput: The pools do not fit the models or are too small; nothing was asked.
            WireError: A model stopped answering.
        """
        for card in (suspect.card, victim.card):
            self.check(card, private, unseen)
        study_rng, accuse_rng = rng.spawn(2)
        return self.accuse(suspect, self.study(victim, private, unseen, study_rng), private, unseen, accuse_rng)

    def study(self, victim: Oracle, private: Pool, unseen: Pool, rng: np.random.Generator) -> Study:
        """Draws the images and walks the victim on those that fit the regressor; see :meth:`verify`."""
        fit_private, held_private = self._split(private, rng)
        fit_unseen, held_unseen = self._split(unseen, rng)
        before = victim.spent
        features = self.embed(victim, private.take(fit_private), unseen.take(fit_unseen), rng)
        return Study(*features, held_private, held_unseen, victim.card.model, victim.spent - before)

    def accuse(
        self, suspect: Oracle, study: Study, private: Pool, unseen: Pool, rng: np.random.Generator
    ) -> Evidence:
        """Walks the suspect on the held-out images and tests their scores; see :meth:`verify`."""
        standard = standardiser(study.private)
        score = fit_regressor(
            rows(standard(study.private)), rows(standard(study.unseen)), self.hidden, self.fit_steps, self.lr, rng
        )
        before = suspect.spent
        held = private.take(study.held_private), unseen.take(study.held_unseen)
        features = self.embed(suspect, *held, rng)
        scores = [score(rows(standard(side))) for side in features]
        test = welch(*scores)
        return Evidence(
            method="dataset-inference",
            verdict="accused" if test.p_value < self.alpha else "inconclusive",
            alpha=self.alpha,
            **test._asdict(),
            samples_exposed=len(study.held_private),
            suspect_queries=suspect.spent - before,
            victim_queries=0 if study.reused else study.queries,
            victim_queries_before=study.queries if study.reused else 0,
            suspect_model=suspect.card.model,
            victim_model=study.model,
            suspect_walks=mean_walks(*features),
            victim_walks=mean_walks(study.private, study.unseen),
            private_scores=tuple(scores[0].tolist()),
            unseen_scores=tuple(scores[1].tolist()),
            private_sha256=private.fingerprint,
            unseen_sha256=unseen.fingerprint,
            settings=dataclasses.asdict(self),
            seed=rng.bit_generator.seed_seq.entropy,  # type: ignore[attr-defined]
        )

    def check(self, card: Card, private: Pool, unseen: Pool) -> None:
        """Raises :class:`~wire.BadInput` if the pools do not fit a model or are too small."""
        low, high, _ = box(card)
        need = self.fit_images + self.test_images
        if not card.dtype.startswith("FP"):
            raise BadInput(
                f"{card.model} takes {card.dtype}, but walks have steps smaller than 1: FP32 or the like"
            )
        for side, pool in {"private": private, "unseen": unseen}.items():
            if len(pool) < need:
                raise BadInput(
                    f"the {side} pool has {len(pool)} rows, but {self.fit_images} to fit and {self.test_images} "
                    f"to test make {need}"
                )
            if pool.y is None:
                raise BadInput(f"the {side} pool has no labels, but walks end where the true label does")
            if pool.input_shape != card.input_shape:
                raise BadInput(
                    f"the {side} pool has rows of shape {pool.input_shape}, but {card.model} takes "
                    f"{card.input_shape}"
                )
            least, most = pool.x.min(), pool.x.max()
            if least < low or most > high:
                raise BadInput(
                    f"the {side} pool has values from {least:g} to {most:g}, but {card.model} takes {low:g} to "
                    f"{high:g}"
                )
            if card.classes and pool.y.max() >= card.classes:
                raise BadInput(
                    f"the {side} pool has label {pool.y.max()}, but {card.model} knows 0 to {card.classes - 1}"
                )

    def embed(self, oracle: Oracle, private: Pool, unseen: Pool, rng: np.random.Generator) -> tuple[Array, Array]:
        """Walks from all images of both sides.

        The sides are mixed, so that a model whose answers change while it is asked favours neither.

        Returns:
            The features of the private images, ``(n, starts, noises)``, and of the unseen ones.

        Raises:
            WireError: The model stopped answering.
        """
        assert private.y is not None and unseen.y is not None
        x, y = np.concatenate([private.x, unseen.x]), np.concatenate([private.y, unseen.y])
        unit, d = box(oracle.card)[2], int(np.prod(x.shape[1:]))
        scales = self.uniform * unit, self.gaussian * unit, self.laplace * unit
        features = np.empty((len(x), self.starts, len(NORMS)))
        blocks = -(-features.size * d // BLOCK)
        try:
            for block in np.array_split(rng.permutation(len(x)), blocks):
                delta = directions((len(block), self.starts, d), *scales, rng)
                features[block] = blind_walk(oracle, x[block], y[block], delta, self.walk_steps)
        except WireError as error:
            raise WireError(f"{oracle.card.model} gave {oracle.spent} answers, then no more: {error}") from error
        return features[: len(private)], features[len(private) :]

    def _split(self, pool: Pool, rng: np.random.Generator) -> tuple[Array, Array]:
        drawn = rng.choice(len(pool), self.fit_images + self.test_images, replace=False)
        return drawn[: self.fit_images], drawn[self.fit_images :]


def mean_walks(private: Array, unseen: Array) -> dict[str, Sides]:
    """Averages features, ``(n, starts, noises)``, over images and starts, by noise and side."""
    means = zip(NORMS, private.mean(axis=(0, 1)), unseen.mean(axis=(0, 1)), strict=True)
    return {noise: {"private": float(one), "unseen": float(other)} for noise, one, other in means}
