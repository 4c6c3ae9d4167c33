"""The evidence of the twin test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.exact_interval import exact_interval

CAUTION = (
    "The p-value holds if the commitment was published before the suspect existed and tries counts every test. "
    "It is a rate over victims: an unlucky victim can resemble a whole family of independent models by chance, so "
    "compare the suspect with such models."
)


@dataclass(frozen=True)
class Ranks:
    """The place of the victim among its twins.

    Attributes:
        root: The commitment to victim, twins, rows and settings, in hexadecimal.
        models: Number of models, M + 1.
        rests_on: Which p-value counts: that of the rank, which is exact, or that of Student's t.
        rank: The victim's place by similarity to the suspect; 1 is the most similar.
        p_rank: Exact p-value of the rank: at least 1 / (M + 1).
        z: The victim's similarity, in standard deviations of the twins' similarities from their mean.
        p_t: Approximate p-value of z.
        limit: The judge's line, which z must exceed: the greatest z of an independent model plus the margin, or
            ``least`` if that is more.
        independent: z of each independent model.
        independent_accused: Number of independent models that rank and t alone would accuse.
        chosen: Number of reference rows chosen; with copies, there are more queries.
        similarities: The similarity of each model to the suspect.
        labels: The suspect's labels, in the order of the queries.
        stopped: Why the suspect did not answer all queries; None if it did.
        guessable_seed: Whether the victim's seed is so small that others may have used it too.
        commitments: Number of the owner's commitments, which multiplied the p-value.
    """

    root: str
    models: int
    rests_on: Literal["rank", "t"]
    rank: int
    p_rank: float
    z: float
    p_t: float
    limit: float
    independent: dict[str, float]
    independent_accused: int
    chosen: int
    similarities: tuple[float, ...]
    labels: tuple[int, ...]
    stopped: str | None
    guessable_seed: bool
    commitments: int = 1

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        basis = {
            "rank": "the verdict rests on the rank: its p-value is exact",
            "t": "the verdict rests on Student's t: its p-value is approximate (with 99 twins the rank suffices)",
        }
        lines = [
            f"the victim is number {self.rank} of {self.models} models by similarity: exact p = {self.p_rank:.3g}",
            f"z = {self.z:.2f}: p = {self.p_t:.2g} by Student's t, approximate",
            basis[self.rests_on],
            f"asked about {self.chosen:,} disputed rows and their copies; no private row was shown",
            self._compared(),
        ]
        if self.stopped is not None:
            lines.append(f"the suspect stopped early ({self.stopped}): only the answered rows count")
        if self.guessable_seed:
            lines.append(
                "the victim's seed can be guessed: a suspect that shares it is not covered by the p-value"
            )
        following = {
            "accused": f"next: let a judge repeat the test against the published commitment {self.root}",
            "inconclusive": "next: prepare more twins, or more reference rows, to detect smaller effects",
        }
        return [*lines, following[verdict]]

    def _compared(self) -> str:
        if not self.independent:
            return "no independent model was tested: nothing shows what this victim makes of an honest model"
        _, low, high = exact_interval(self.independent_accused, len(self.independent))
        return (
            f"independent models: z at most {max(self.independent.values()):.2f}; rank and t alone would accuse "
            f"{self.independent_accused} of {len(self.independent)} (95 % interval {low:.1%} to {high:.1%})"
        )
