"""The images that selected dataset inference shows, and its evidence."""

from __future__ import annotations

from dataclasses import dataclass

from owner.twins.kept import Kept
from wire import Array, Labels
from zoo.exact_interval import exact_interval

CAUTION = (
    "The p-value holds if private and unseen images were divided at random, if the commitment was published "
    "before the suspect existed, and if tries counts every test."
)


@dataclass(frozen=True, eq=False)
class Selection(Kept):
    """The images to show, in random order, and what thefts make of them.

    Attributes:
        images: Their numbers among the owner's images, ``(2 m,)``.
        private: Which of them trained the victim, ``(2 m,)`` bool.
        d: By how much the signal of a theft is greater for a private image.
        ex: The mean of the signal.
        var: The variance of the signal.
    """

    images: Labels
    private: Array
    d: Array
    ex: Array
    var: Array


@dataclass(frozen=True)
class Selected:
    """The results of selected dataset inference.

    Attributes:
        root: The commitment to victim, twins, rows and settings, in hexadecimal.
        statistic: The sum of the private images' evidence.
        z: The statistic, in standard deviations of all divisions from their mean.
        samples_exposed: Number of private images sent to the suspect.
        independent: The p-value of each independent model.
        independent_accused: Number of independent models that are accused.
        commitments: Number of the owner's commitments, which multiplied the p-value.
    """

    root: str
    statistic: float
    z: float
    samples_exposed: int
    independent: dict[str, float]
    independent_accused: int
    commitments: int = 1

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        following = {
            "accused": f"next: let a judge repeat the test against the published commitment {self.root}",
            "inconclusive": "next: show more images; the twin test needs none, and finds thefts of the model",
        }
        lines = [
            f"z = {self.z:.2f} among random divisions; the p-value is exact",
            f"exposed {self.samples_exposed} private images to the suspect",
        ]
        if self.independent:
            rate, low, high = exact_interval(self.independent_accused, len(self.independent))
            lines.append(
                f"{self.independent_accused} of {len(self.independent)} independent models are accused "
                f"({rate:.1%}; 95 % interval {low:.1%} to {high:.1%})"
            )
        return [*lines, following[verdict]]
