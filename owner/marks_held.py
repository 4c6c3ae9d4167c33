"""The evidence of a DAWN claim."""

from __future__ import annotations

from dataclasses import dataclass, field

from defenses.watermarks.ledger import Opening
from defenses.watermarks.verification import tail

SPENT = "The key of these marks is spent: anyone who has it can distinguish marked rows from others."
CAUTION = (
    "The p-value holds for marks that the account got before the owner could query the suspect. Only a judge can "
    "see whether the owner picked them: judge-dawn checks them against the key and the published commitment."
)


@dataclass(frozen=True)
class MarksHeld:
    """The marks of an account that a suspect repeats.

    Attributes:
        marks: Number of marks that count.
        matches: Number of marks that hold: the suspect returns the false label.
        mark_error: Share of marks that do not hold; the paper's L.
        tail: Probability that the mark error of a model that was not stolen is at most the threshold: the paper's
            measure, which does not depend on what was observed.
        p0: Probability that a mark holds in a model that was not stolen.
        missing: Number of additional marks that a verdict needs if as large a share of them holds; 0 if these
            suffice, None if no number would.
        independent: Number of marks that hold in each independent model; without any, p0 is that of guessing.
        doubtful: Number of marks that a judge counts as failed, because the victim now answers differently or maps
            the row to another cell.
        repeated: Number of marks that do not count, because another mark has the same cell.
        opening: The account's marks, with the proof that a commitment binds them.
        others: The marks of further accounts under the same commitment, likewise.
        key: The watermark key in hexadecimal, for a judge; None if it was not revealed.
    """

    marks: int
    matches: int
    mark_error: float
    tail: float
    p0: float
    missing: int | None
    independent: dict[str, int]
    doubtful: int
    repeated: int
    opening: Opening = field(repr=False)
    others: tuple[Opening, ...] = field(default=(), repr=False)
    key: str | None = None

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        accounts = ", ".join(one.account for one in (self.opening, *self.others))
        lines = [
            f"{self.matches} of {self.marks} marks of account {accounts} hold: mark error {self.mark_error:.3f}",
            f"a model that was not stolen holds as many with probability "
            f"{tail(self.marks, self.mark_error, self.p0):.3g}, at p0 {self.p0:.4f}",
            f"{1 + len(self.others)} of {len(self.opening.accounts)} accounts with marks: the number of ways to "
            "choose so many multiplies the p-value",
            *(f"independent model {name}: {held} marks hold" for name, held in self.independent.items()),
        ]
        if not self.independent:
            lines.append("no independent model was queried: p0 is that of guessing")
        if self.doubtful:
            lines.append(f"{self.doubtful} marks count as failed: the victim's answer is not the recorded one")
        if self.repeated:
            lines.append(f"{self.repeated} more marks do not count: near-duplicates, which share a decision")
        if verdict == "inconclusive" and self.missing is None:
            lines.append("next: nothing; no number of additional marks would accuse this suspect")
        elif verdict == "inconclusive":
            lines.append(f"next: {self.missing} more marks needed, from more rows of the account")
        elif self.key is None:
            lines.append(
                "next: run it again with --open, and give the evidence and the root to a judge (judge-dawn)"
            )
        else:
            lines += [SPENT, "next: give the evidence and the published root to a judge (judge-dawn)"]
        return lines
