"""The evidence of radioactive data."""

from __future__ import annotations

from dataclasses import dataclass


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
        wrong: The difference by each wrong key; none without a committed key.
        rank: The place of the owner's key among the wrong ones; 1 is the greatest difference.
        z_keys: Its distance from the wrong keys' mean, in their deviations, after what independent models know.
        p_keys: P-value of the comparison with wrong keys.
        commitments: Number of the owner's commitments, which multiplies the p-value.
    """

    rows: int
    difference: float
    p_paired: float
    p_models: float
    z: float
    independent: dict[str, float]
    wrong: tuple[float, ...] = ()
    rank: int = 1
    z_keys: float = 0.0
    p_keys: float = 1.0
    commitments: int = 1

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        keys = [
            f"the owner's key is number {self.rank} of {1 + len(self.wrong)} keys, z = {self.z_keys:.2f}: p = "
            f"{self.p_keys:.3g}, which counts",
        ]
        return [
            f"loss on {self.rows} originals less loss on marked images: {self.difference:.4f} (against 0: p = "
            f"{self.p_paired:.3g})",
            *(f"independent model {name}: {found:.4f}" for name, found in self.independent.items()),
            f"z among the independent models: {self.z:.2f}, p = {self.p_models:.3g}",
            *(keys if self.wrong else ["without wrong keys (--mark and --marker), the larger p counts"]),
            f"p is multiplied by the number of commitments in the log, {self.commitments}",
            "next: give the evidence, the key's folder and the marker to a judge (judge-radioactive)",
        ]
