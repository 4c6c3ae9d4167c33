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

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from defenses.answers.grid import Grid
from defenses.watermarks.ledger import Mark, Opening, WatermarkParameters
from defenses.watermarks.mapping import points
from defenses.watermarks.verification import chance_bound, marks_needed, tail
from owner.evidence import Evidence
from owner.marks_held import CAUTION, MarksHeld
from owner.ownership import MostRows
from wire import Array, BadInput, Card, Labels, Oracle


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


def ways(opening: Opening, others: Sequence[Opening] = ()) -> int:
    """Returns in how many ways the owner could choose as many accounts among those with marks."""
    return max(1, math.comb(len(opening.accounts), 1 + len(others)))


def counted(opening: Opening, others: Sequence[Opening] = ()) -> tuple[WatermarkParameters, list[Mark]]:
    """Returns the parameters of the marks of one or more accounts, and the marks that count.

    Rows of one cell or point share a decision, so they hold or fail together, whichever account asked; only the
    first of them counts.

    Raises:
        Broken: The marks do not match the root.
        BadInput: There are no marks, or not all are of other accounts under the same root.
    """
    accounts = [one.account for one in (opening, *others)]
    if len(set(accounts)) < len(accounts) or {one.root for one in others} - {opening.root}:
        raise BadInput(f"expected marks of different accounts under one root, not of {', '.join(accounts)}")
    parameters, marks = _counted(opening)
    of_points = {mapped(parameters, mark): mark for mark in reversed(marks)}
    for other in others:
        for mark in _counted(other)[1]:
            if of_points.setdefault(mapped(parameters, mark), mark) is mark:
                marks.append(mark)
    if not marks:
        raise BadInput("the account has no marks")
    return parameters, marks


def _counted(opening: Opening) -> tuple[WatermarkParameters, list[Mark]]:
    parameters, marks = opening.verified()
    if parameters.mapping == "median" or parameters.grid is not None:
        marks = list({mapped(parameters, mark): mark for mark in reversed(marks)}.values())[::-1]
    return parameters, marks


def mapped(parameters: WatermarkParameters, mark: Mark) -> tuple[str, bytes]:
    """Returns form and bytes of a mark's mapped input: its row, its nearest point of a grid, or its cell."""
    if parameters.mapping == "exact":
        if parameters.grid is None:
            return mark.form, mark.row
        form, (point,) = points(mark.x[None], Grid.parse(parameters.grid))
        return form, point
    try:
        return f"median {len(parameters.limits)}", bytes.fromhex(mark.cell or "")
    except ValueError:
        raise BadInput(f"a mark has the cell {mark.cell!r}; expected hexadecimal") from None


def check_fit(card: Card, parameters: WatermarkParameters, marks: list[Mark]) -> None:
    """Raises :class:`~wire.BadInput` if a model does not take the marked rows."""
    forms = {mark.form for mark in marks}
    if len(forms) > 1:
        raise BadInput(f"the marked rows have {len(forms)} forms: {', '.join(sorted(forms))}; expected one")
    shape = marks[0].x.shape
    if card.input_shape != shape:
        raise BadInput(f"model {card.model} takes rows of shape {card.input_shape}, but the marks have {shape}")
    if card.classes not in (0, parameters.classes):
        raise BadInput(f"model {card.model} has {card.classes} classes, but the marks have {parameters.classes}")


def rows_of(marks: list[Mark]) -> Array:
    """Returns the marked rows, ``(n, ...)``, for an oracle: bytes become pixels in [0, 1]."""
    x = np.stack([mark.x for mark in marks])
    return x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x


def told_labels(marks: list[Mark]) -> Labels:
    """Returns the false labels of marks, ``(n,)``."""
    return np.array([mark.told_label for mark in marks], np.int64)
