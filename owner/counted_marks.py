"""The marks of a DAWN claim that count, as rows and labels to ask a suspect about."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from defenses.answers.grid import Grid
from defenses.watermarks.ledger import Mark, Opening, WatermarkParameters
from defenses.watermarks.mapping import points
from wire import Array, BadInput, Card, Labels


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
