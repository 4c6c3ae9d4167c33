"""DAWN's claim: tests whether a suspect repeats the false labels that one account got.

Source: Szyller, Atli, Marchal, Asokan, "DAWN: Dynamic Adversarial Watermarking of Neural Networks", ACM Multimedia
2021 (arXiv 1906.00830), "Watermark verification". The marks are made in ``defenses/watermarks/dawn.py``.

The suspect is queried with all marked rows of the account. A mark holds if the suspect returns the false label.
The mark error L is the share of marks that do not hold. The suspect is accused if L < e, and if the exact p-value,
the probability that a model that was not stolen holds at least as many marks, is below 2^-bits. As an owner can
choose the account that suits him best, the p-value is multiplied by the number of accounts with marks; for a
theft that was split over k of N accounts, by the number of ways to choose k of N.

What differs from the paper: it asks how many marks a model that was not stolen needs to reach L <= e, whatever was
observed, which takes four times as many marks where all hold. It uses 1/m as the probability that a mark holds by
chance; here, it is measured on independent models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

import numpy as np

from defenses.watermarks.ledger import Mark, Opening
from defenses.watermarks.verification import chance_bound, marks_needed, tail
from owner.counted_marks import check_fit, counted, rows_of, told_labels, ways
from owner.evidence import Evidence
from owner.marks_held import CAUTION, MarksHeld
from owner.ownership import MostRows
from wire import Array, BadInput, Card, Oracle


@dataclass(frozen=True)
class Claim:
    """The owner's holdings for the claim.

    Attributes:
        opening: The account's marks, with the proof that a commitment binds them.
        independent: Models known not to be stolen, by name.
        key: Reveals the watermark key for a judge; called after the suspect has answered. None keeps it secret.
        others: The marks of further accounts, which the same commitment binds: a theft may be split over several.
    """

    opening: Opening
    independent: Mapping[str, Oracle]
    key: Callable[[], str] | None = None
    others: tuple[Opening, ...] = ()


@dataclass(frozen=True, eq=False)
class Study:
    """The marks, and how often they hold by chance.

    Attributes:
        claim: The owner's holdings.
        marks: The marks that count: all, or one per cell.
        independent: Number of these marks that hold in each independent model.
        p0: Upper bound on the probability that a mark holds in a model that was not stolen.
        doubtful: Marks that a judge counts as failed, ``(n,)`` bool.
    """

    claim: Claim
    marks: list[Mark]
    independent: dict[str, int]
    p0: float
    doubtful: Array


@dataclass(frozen=True)
class Dawn:
    """DAWN: tests whether a suspect repeats an account's marks (Szyller et al., ACM MM 2021).

    Attributes:
        error: Threshold e on the mark error; a smaller mark error accuses.
        bits: Confidence of the verdict: 1 - 2^-bits.
    """

    error: float = 0.5
    bits: float = 64.0

    def __post_init__(self) -> None:
        if not (0 <= self.error < 1 and 0 < self.bits <= 1000):
            raise BadInput(
                f"error must lie between 0 and 1, and bits between 0 and 1,000, not {self.error} and {self.bits}"
            )

    def most_rows(self) -> MostRows:
        """Returns no maximum for the suspect: every mark that counts is queried."""
        return MostRows(victim=0)

    def check(self, suspect: Card, holdings: Claim) -> None:
        """Raises :class:`~wire.BadInput` if the marks do not match the commitment, or do not fit a model."""
        parameters, marks = counted(holdings.opening, holdings.others)
        for card in (suspect, *(model.card for model in holdings.independent.values())):
            check_fit(card, parameters, marks)

    def prepare(self, holdings: Claim, rng: np.random.Generator) -> Study:
        """Measures on the independent models how often a mark holds by chance."""
        parameters, marks = counted(holdings.opening, holdings.others)
        x, false = rows_of(marks), told_labels(marks)
        agreed = {
            name: int((model.query(x).labels == false).sum()) for name, model in holdings.independent.items()
        }
        p0 = chance_bound(list(agreed.values()), len(marks), parameters.classes)
        return Study(holdings, marks, agreed, p0, np.zeros(len(marks), bool))

    def accuse(self, suspect: Oracle, study: Study, rng: np.random.Generator) -> Evidence[MarksHeld]:
        """Queries the suspect with the marked rows."""
        marks, claim, n = study.marks, study.claim, len(study.marks)
        held = suspect.query(rows_of(marks)).labels == told_labels(marks)
        matches, chance = int((held & ~study.doubtful).sum()), 2.0**-self.bits
        loss = 1 - matches / n  # the paper's L
        choices = ways(claim.opening, claim.others)
        p_value = min(1.0, choices * tail(n, loss, study.p0))
        enough = p_value < chance
        needed = n if enough else marks_needed(loss, study.p0, chance / choices, least=n)
        return Evidence(
            method="dawn",
            verdict="accused" if enough and loss < self.error else "inconclusive",
            p_value=p_value,
            alpha=chance,
            suspect=suspect.card.model,
            suspect_queries=n,
            settings=asdict(self),
            caution=CAUTION,
            details=MarksHeld(
                marks=n,
                matches=matches,
                mark_error=loss,
                tail=tail(n, self.error, study.p0),
                p0=study.p0,
                missing=None if needed is None or loss >= self.error else needed - n,
                independent=study.independent,
                doubtful=int(study.doubtful.sum()),
                repeated=sum(len(opening.entries) for opening in (claim.opening, *claim.others)) - n,
                opening=claim.opening,
                others=claim.others,
                key=None if claim.key is None else claim.key(),
            ),
        )
