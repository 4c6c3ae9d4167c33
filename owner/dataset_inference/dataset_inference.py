"""Dataset inference: tests whether a suspect treats the owner's private images differently from unseen ones.

Source: Maini, Yaghini, Papernot, "Dataset Inference: Ownership Resolution in Machine Learning", ICLR 2021,
"Embedding Generation" and "Ownership Tester"; black box, from labels alone.

In the authors' code, a row of the feature table mixes 30 images, and every image is on both sides of the split
into fit and test, which makes the published effects larger. The authors also report a harmonic mean of p over 100
draws of 10 images. Here, a row has the features of one image, and images used to fit the regressor are not used in
the test.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from owner.dataset_inference.blind_walk import NORMS, blind_walk, box, directions
from owner.dataset_inference.embeddings import Embeddings, Images, Study
from owner.dataset_inference.ownership_tester import fit_regressor, rows, standardiser, welch
from owner.dataset_inference.walks import CAUTION, Walks, mean_walks
from owner.evidence import Evidence
from owner.ownership import About, MostRows
from wire import Array, BadInput, Card, Oracle, WireError
from zoo.data.pool import Pool

BLOCK = 2**24  # maximum number of values in the directions held at a time

STUDIED = ("fit_images", "test_images", "starts", "uniform", "gaussian", "laplace", "walk_steps")
"""The settings on which a study depends; the others affect only the regressor and the test."""


@dataclass(frozen=True)
class DatasetInference:
    """Dataset inference through the Blind Walk (Maini et al., ICLR 2021).

    Attributes:
        fit_images: Number of private and of unseen images whose walks on the victim fit the regressor.
        test_images: Number of other private and unseen images, whose walks on the suspect are scored.
        starts: Random directions per image and noise distribution.
        uniform: Half width of the uniform noise, as a share of a feature's range.
        gaussian: Standard deviation of the Gaussian noise, as a share of a feature's range.
        laplace: Scale of the Laplace noise, as a share of a feature's range.
        walk_steps: Maximum number of steps of a walk.
        hidden: Hidden units of the regressor.
        fit_steps: Full-batch gradient steps to fit the regressor.
        lr: Learning rate of the regressor.
        alpha: Significance level; a smaller p-value accuses.
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

    def most_rows(self) -> MostRows:
        """Returns the maximum number of rows that the walks query."""
        most = 2 * self.starts * len(NORMS) * self.walk_steps
        return MostRows(most * self.fit_images, most * self.test_images)

    def check(self, suspect: Card, holdings: Images) -> None:
        """Raises :class:`~wire.BadInput` if the pools are too small or do not fit victim and suspect."""
        for card in (suspect, holdings.victim.card):
            holdings.check(card, self.fit_images, self.test_images)

    def prepare(self, holdings: Images, rng: np.random.Generator) -> Study:
        """Draws the images, and walks on the victim from those that fit the regressor."""
        self.check(holdings.victim.card, holdings)
        fit_private, held_private = self._split(holdings.private, rng)
        fit_unseen, held_unseen = self._split(holdings.unseen, rng)
        victim, before = holdings.victim, holdings.victim.spent
        features = self.embed(victim, holdings.private.take(fit_private), holdings.unseen.take(fit_unseen), rng)
        return Study(holdings, Embeddings(*features, held_private, held_unseen), victim.spent - before)

    def accuse(self, suspect: Oracle, study: Study, rng: np.random.Generator) -> Evidence[Walks]:
        """Walks on the suspect from the held-out images, and tests the regressor's scores of these walks."""
        known, images = study.embeddings, study.images
        standard = standardiser(known.private)
        score = fit_regressor(
            rows(standard(known.private)), rows(standard(known.unseen)), self.hidden, self.fit_steps, self.lr, rng
        )
        before = suspect.spent
        held = images.private.take(known.held_private), images.unseen.take(known.held_unseen)
        features = self.embed(suspect, *held, rng)
        scores = [score(rows(standard(side))) for side in features]
        test = welch(*scores)
        return Evidence(
            method="dataset-inference",
            verdict="accused" if test.p_value < self.alpha else "inconclusive",
            p_value=test.p_value,
            alpha=self.alpha,
            suspect=suspect.card.model,
            suspect_queries=suspect.spent - before,
            settings=dataclasses.asdict(self),
            caution=CAUTION,
            details=Walks(
                statistic=test.statistic,
                degrees_of_freedom=test.degrees_of_freedom,
                delta_mu=test.delta_mu,
                interval=test.interval,
                samples_exposed=len(known.held_private),
                victim=images.victim.card.model,
                victim_queries=0 if study.reused else study.queries,
                victim_queries_before=study.queries if study.reused else 0,
                suspect_walks=mean_walks(*features),
                victim_walks=mean_walks(known.private, known.unseen),
                private_scores=tuple(scores[0].tolist()),
                unseen_scores=tuple(scores[1].tolist()),
                private_sha256=images.private.fingerprint,
                unseen_sha256=images.unseen.fingerprint,
                seed=rng.bit_generator.seed_seq.entropy,  # type: ignore[attr-defined]
            ),
        )

    def save_study(self, study: Study, path: Path, about: About) -> None:
        """Writes a study with the conditions that it depends on."""
        study.save(path, self._about(study.images, about))

    def load_study(self, path: Path, holdings: Images, about: About) -> Study:
        """Reads a study, or raises :class:`~wire.BadInput` if it was made under other conditions."""
        return Study.load(path, holdings, self._about(holdings, about))

    def embed(self, oracle: Oracle, private: Pool, unseen: Pool, rng: np.random.Generator) -> tuple[Array, Array]:
        """Walks from all private and unseen images.

        The two sides are shuffled together, so that a model whose answers drift over time favours neither.

        Returns:
            The features of the private images, ``(n, starts, noises)``, and those of the unseen images.

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
            raise WireError(f"{oracle.card.model} stopped after {oracle.spent} answers: {error}") from error
        return features[: len(private)], features[len(private) :]

    def _split(self, pool: Pool, rng: np.random.Generator) -> tuple[Array, Array]:
        drawn = rng.choice(len(pool), self.fit_images + self.test_images, replace=False)
        return drawn[: self.fit_images], drawn[self.fit_images :]

    def _about(self, images: Images, about: About) -> About:
        """Returns the conditions that a study depends on."""
        card = images.victim.card
        return {
            **{name: getattr(self, name) for name in STUDIED},
            **about,
            "model": card.model,
            "version": card.version,
            "range": f"{card.low} to {card.high}",
            "private pool": images.private.fingerprint,
            "unseen pool": images.unseen.fingerprint,
        }
