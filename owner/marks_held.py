"""The evidence of a DAWN claim."""

from __future__ import annotations

from dataclasses import dataclass, field

from defenses.watermarks.ledger import Opening

SPENT = "The key of these marks is spent: anyone who has seen it can tell marked rows from others."
CAUTION = (
    "The p-value holds for marks that the account got before the owner could reach the suspect. Only a judge can "
    "see whether the owner picked them: judge-dawn checks them against the key and the published commitment."
)


@dataclass(frozen=True)
class MarksHeld:
    """How many of an account's marks a suspect repeats.

    Attributes:
        marks: How many marks count.
        matches: How many of them hold: the suspect returns the false label.
        mark_error: Share of the marks that do not hold; the paper's L.
        tail: How likely the mark error of a model that was not stolen is at most the greatest that accuses.
        p0: How likely a mark holds in a model that was not stolen.
        missing: How many more marks a verdict needs; 0 if these suffice, None if no number would.
        independent: How many marks hold in each independent model. Without any, p0 is that of guessing.
        doubtful: How many marks a judge counts as failed, since the victim answers differently now or puts the row
            into another cell.
        repeated: How many marks do not count, since they are of the cell of another.
        opening: The account's marks, and the proof that a commitment binds them.
        key: The watermark key in hexadecimal, for a judge; None if it was not opened.
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
    key: str | None = None

    def describe(self, verdict: str) -> list[str]:
        """Returns, line by line, what was measured and what to do next."""
        lines = [
            f"{self.matches} of {self.marks} marks of account {self.opening.account} hold: mark error "
            f"{self.mark_error:.3f}",
            f"a model that was not stolen is accused with probability {self.tail:.3g}, at p0 {self.p0:.4f}",
            *(f"independent model {name}: {held} marks hold" for name, held in self.independent.items()),
        ]
        if not self.independent:
            lines.append("no independent model was asked: p0 is that of guessing")
        if self.doubtful:
            lines.append(f"{self.doubtful} marks count as failed: the victim answers differently now")
        if self.repeated:
            lines.append(f"{self.repeated} more marks do not count: near-duplicates, which share their decision")
        if verdict == "inconclusive" and self.missing is None:
            lines.append("next: nothing; no number of such marks would accuse this suspect")
        elif verdict == "inconclusive":
            lines.append(f"next: {self.missing} more marks needed, from more rows of the account")
        elif self.key is None:
            lines.append(
                "next: run it again with --open, and give the evidence and the root to a judge (judge-dawn)"
            )
        else:
            lines += [SPENT, "next: give the evidence and the published root to a judge (judge-dawn)"]
        return lines
