"""The evidence of dataset inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from owner.dataset_inference.blind_walk import NORMS
from wire import Array

CAUTION = (
    "The p-value tests this suspect against no difference at all, not against models that never saw the private "
    "rows, which can differ from zero too (Szyller et al., TMLR 2023). Compare it with the rate at which "
    "independent models of the same distribution are accused."
)

Sides = dict[Literal["private", "unseen"], float]


@dataclass(frozen=True)
class Walks:
    """The results of the walks on a suspect.

    Attributes:
        statistic: Welch's t; positive if the private images' scores indicate membership more than the unseen
            ones'.
        degrees_of_freedom: Degrees of freedom of Welch's t (Welch-Satterthwaite).
        delta_mu: Effect size: mean score of the unseen images minus that of the private images, from -2 to 2.
        interval: The 95 % confidence interval of ``delta_mu``.
        samples_exposed: Number of private images sent to the suspect.
        victim: Name of the victim's model.
        victim_queries: Number of rows queried from the victim for this evidence.
        victim_queries_before: Number of rows queried from the victim earlier, whose answers were reused.
        suspect_walks: Mean distance walked on the suspect, by noise and side, in the model's units.
        victim_walks: Mean distance walked on the victim from the images that fitted the regressor, likewise.
        private_scores: The suspect's scores of the held-out private images.
        unseen_scores: The suspect's scores of the held-out unseen images.
        private_sha256: Fingerprint of the private pool.
        unseen_sha256: Fingerprint of the unseen pool.
        seed: Seed of all randomness.
    """

    statistic: float
    degrees_of_freedom: float
    delta_mu: float
    interval: tuple[float, float]
    samples_exposed: int
    victim: str
    victim_queries: int
    victim_queries_before: int
    suspect_walks: dict[str, Sides]
    victim_walks: dict[str, Sides]
    private_scores: tuple[float, ...]
    unseen_scores: tuple[float, ...]
    private_sha256: str
    unseen_sha256: str
    seed: int

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        low, high = self.interval
        before = f" (and {self.victim_queries_before:,} earlier, reused)" * bool(self.victim_queries_before)
        walks = [
            f"{noise} walks: private {sides['private']:.4f}, unseen {sides['unseen']:.4f}"
            for noise, sides in self.suspect_walks.items()
        ]
        following = {
            "accused": "next: test models known not to be stolen in the same way; if they are accused too, "
            "this proves nothing",
            "inconclusive": "next: use more images (--fit-images, --test-images) to detect smaller effects",
        }
        return [
            f"Welch's t {self.statistic:.3f}, df {self.degrees_of_freedom:.1f}",
            f"delta mu {self.delta_mu:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}",
            *walks,
            f"queried the victim with {self.victim_queries:,} rows{before}",
            f"exposed {self.samples_exposed} private images to the suspect",
            following[verdict],
        ]


def mean_walks(private: Array, unseen: Array) -> dict[str, Sides]:
    """Averages features, ``(n, starts, noises)``, over images and starts, by noise and side."""
    means = zip(NORMS, private.mean(axis=(0, 1)), unseen.mean(axis=(0, 1)), strict=True)
    return {noise: {"private": float(one), "unseen": float(other)} for noise, one, other in means}
