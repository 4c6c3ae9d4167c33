"""The evidence of dataset inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from owner.dataset_inference.blind_walk import NORMS
from wire import Array

CAUTION = (
    "The p-value tests this suspect against no difference at all, not against models that never saw the private "
    "rows; those too can differ from zero (Szyller et al., TMLR 2023). Read it beside the rate at which "
    "independent models of the same distribution are accused."
)

Sides = dict[Literal["private", "unseen"], float]


@dataclass(frozen=True)
class Walks:
    """What the walks on a suspect showed.

    Attributes:
        statistic: Welch's t; greater than zero if private images score as better known than unseen ones.
        degrees_of_freedom: Of Welch's t, by Welch and Satterthwaite.
        delta_mu: Effect size: mean score of the unseen images less that of the private ones, from -2 to 2.
        interval: The 95 % confidence interval of ``delta_mu``.
        samples_exposed: Private images that the suspect was shown.
        victim: Name of the victim's model.
        victim_queries: Rows asked of the victim for this evidence.
        victim_queries_before: Rows asked of the victim earlier, whose answers were used again here.
        suspect_walks: Mean distance walked on the suspect, by noise and side, in the model's units.
        victim_walks: The same on the victim, for the images that fitted the regressor.
        private_scores: The suspect's scores of the held-out private images.
        unseen_scores: The suspect's scores of the held-out unseen images.
        private_sha256: Fingerprint of the private pool, of which the seed draws the images.
        unseen_sha256: Fingerprint of the unseen pool.
        seed: Seed of everything that was drawn.
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
        """Returns, line by line, what was measured and what to do next."""
        low, high = self.interval
        before = f" (and {self.victim_queries_before:,} earlier, used again)" * bool(self.victim_queries_before)
        walks = [
            f"{noise} walks: private {sides['private']:.4f}, unseen {sides['unseen']:.4f}"
            for noise, sides in self.suspect_walks.items()
        ]
        following = {
            "accused": "next: test models that were surely not stolen in the same way; if they are accused too, "
            "this proves nothing",
            "inconclusive": "next: more images on each side (--fit-images, --test-images) find smaller effects",
        }
        return [
            f"Welch's t {self.statistic:.3f}, df {self.degrees_of_freedom:.1f}",
            f"delta mu {self.delta_mu:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}",
            *walks,
            f"asked the victim {self.victim_queries:,} rows{before}",
            f"showed the suspect {self.samples_exposed} private images",
            following[verdict],
        ]


def mean_walks(private: Array, unseen: Array) -> dict[str, Sides]:
    """Averages features, ``(n, starts, noises)``, over images and starts, by noise and side."""
    means = zip(NORMS, private.mean(axis=(0, 1)), unseen.mean(axis=(0, 1)), strict=True)
    return {noise: {"private": float(one), "unseen": float(other)} for noise, one, other in means}
