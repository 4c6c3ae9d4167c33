"""Dataset inference where the judge has the suspect's weights: are private images farther from other classes?

Source: Maini, Yaghini, Papernot, "Dataset Inference: Ownership Resolution in Machine Learning", ICLR 2021, section
4 (MinGD; the confidence regressor and the one-sided test are those of the black-box test).

What differs: a row has the features of one image, and no image fits the regressor and is tested too (see
``as_published.py``). The paper compares unseen with private images of the suspect alone, which independent models
can fail as well (Szyller et al., "On the Robustness of Dataset Inference", TMLR 2023). So the suspect's effect
must also exceed those of independent models, by the t distribution for one more of them; the larger p-value
counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from owner.dataset_inference.embeddings import Images
from owner.dataset_inference.min_gd import min_gd
from owner.dataset_inference.ownership_tester import Welch, fit_regressor, rows, standardiser, welch
from owner.evidence import Evidence
from owner.one_more import LEAST, beyond, evidence
from owner.twins.twins import answering
from wire import Array, BadInput, Oracle
from zoo.data.pool import Pool
from zoo.network import Network

CAUTION = (
    "The p-value holds if private and unseen images were divided at random before the victim was trained, and if "
    "the independent models resemble the suspect in all but the private images."
)


@dataclass(frozen=True, eq=False)
class Study:
    """What all suspects are tested by.

    Attributes:
        score: Scores features of MinGD, ``(n, classes, norms)``: lower for private images.
        private: Private images that did not fit it.
        unseen: Unseen images that did not fit it.
    """

    score: Callable[[Array], Array]
    private: Pool
    unseen: Pool


@dataclass(frozen=True)
class Weighed:
    """How much farther a suspect's private images are from other classes.

    Attributes:
        images: Number of images of each side that were tested.
        delta_mu: Mean score of the unseen images minus that of the private ones, from -2 to 2.
        p_zero: P-value of the published comparison of the suspect's unseen with its private images.
        p_models: P-value of the comparison of the effect with those of independent models.
        independent: The effect of each independent model.
    """

    images: int
    delta_mu: float
    p_zero: float
    p_models: float
    independent: dict[str, float]

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        return [
            f"delta mu {self.delta_mu:+.4f} for {self.images} images a side (against 0: p = {self.p_zero:.3g})",
            *(f"independent model {name}: {found:+.4f}" for name, found in self.independent.items()),
            f"against the independent models: p = {self.p_models:.3g}; the larger p counts",
            "next: give the images to a judge, who compares with models of the judge's own",
        ]


@dataclass(frozen=True)
class InferenceByWeights:
    """Dataset inference by weights: MinGD on a suspect whose weights are known (Maini et al., ICLR 2021).

    Attributes:
        fit_images: Number of private and of unseen images by which the regressor is fitted to the victim.
        test_images: Number of others, which are scored through the suspect.
        steps: Maximum number of steps of a walk.
        hidden: Hidden units of the regressor.
        fit_steps: Full-batch gradient steps to fit the regressor.
        lr: Learning rate of the regressor.
        alpha: Significance level.
        tries: Number of suspects that the owner tested; multiplies the p-value.
    """

    fit_images: int = 200
    test_images: int = 100
    steps: int = 500
    hidden: int = 100
    fit_steps: int = 1000
    lr: float = 0.1
    alpha: float = 0.01
    tries: int = 1

    def __post_init__(self) -> None:
        if (
            min(self.fit_images, self.test_images) < 2
            or min(self.steps, self.hidden, self.fit_steps, self.tries) < 1
        ):
            raise BadInput(f"images must be at least 2 a side, and the other numbers at least 1, not {self}")
        if not (self.lr > 0 and 0 < self.alpha < 1):
            raise BadInput(f"lr must be greater than 0, and alpha lie between 0 and 1, not {self}")

    def prepare(self, victim: Network, private: Pool, unseen: Pool, rng: np.random.Generator) -> Study:
        """Fits the regressor to the victim.

        Raises:
            BadInput: The images do not fit the victim, are too few, or do not lie from 0 to 1.
        """
        if private.bounds != (0.0, 1.0):
            raise BadInput("MinGD takes images from 0 to 1 only")
        images = Images(Oracle(answering(victim.predict), victim.card()), private, unseen)
        images.check(victim.card(), self.fit_images, self.test_images)
        sides = [pool.take(rng.permutation(len(pool))) for pool in (private, unseen)]
        fit, end = slice(self.fit_images), self.fit_images + self.test_images
        features = [min_gd(victim, side.x[fit], self.steps) for side in sides]
        standard = standardiser(features[0])
        one, other = (rows(standard(side)) for side in features)
        score = fit_regressor(one, other, self.hidden, self.fit_steps, self.lr, rng)
        held = (side.take(slice(self.fit_images, end)) for side in sides)
        return Study(lambda found: score(rows(standard(found))), *held)

    def effect(self, suspect: Network, study: Study) -> Welch:
        """Returns how much higher a model's unseen images score than its private ones."""
        sides = (study.score(min_gd(suspect, pool.x, self.steps)) for pool in (study.private, study.unseen))
        return welch(*sides)

    def accuse(self, suspect: Network, study: Study, independent: Mapping[str, float]) -> Evidence[Weighed]:
        """Tests a suspect.

        Args:
            suspect: The suspect, with its weights.
            study: The study of the victim.
            independent: The effect, delta mu, of each independent model, by name.

        Raises:
            BadInput: There are too few independent models.
        """
        if len(independent) < LEAST:
            raise BadInput(f"expected at least {LEAST} independent models, not {len(independent)}")
        found = self.effect(suspect, study)
        p = beyond(found.delta_mu, list(independent.values())).p
        details = Weighed(len(study.private), found.delta_mu, found.p_value, p, dict(independent))
        oracle, larger = Oracle(answering(suspect.predict), suspect.card()), max(p, found.p_value)
        return evidence("inference-by-weights", self, larger, oracle, 0, CAUTION, details)
