"""Compares a suspect's number with those of independent models: Student's t for one more draw.

The sample is one number per model, since the rows of one model are not independent. The test is valid if the
suspect resembles the independent models in everything but the claim; a suspect of another family may exceed all of
them for that reason alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, TypeVar

import numpy as np
from scipy import stats

from owner.commitment import Receipt
from owner.evidence import Details, Evidence
from wire import Array, BadInput, Labels, Oracle

LEAST = 3  # minimum number of independent models
D = TypeVar("D", bound=Details)


class Beyond(NamedTuple):
    """How far a number lies beyond others.

    Attributes:
        z: Its distance from their mean, in deviations of one more draw.
        p: The one-sided p-value.
    """

    z: float
    p: float


def beyond(own: float, others: Sequence[float]) -> Beyond:
    """Compares a suspect's number with those of at least :data:`LEAST` independent models."""
    spread = max(float(np.std(others, ddof=1)), 1e-12) * np.sqrt(1 + 1 / len(others))
    z = float((own - np.mean(others)) / spread)
    return Beyond(z, float(stats.t.sf(z, len(others) - 1)))


def enough(independent: Mapping[str, Oracle], least: int = LEAST) -> None:
    """Raises :class:`~wire.BadInput` if there are too few independent models."""
    if len(independent) < least:
        raise BadInput(f"expected at least {least} independent models, not {len(independent)}")


def share(model: Oracle, x: Array, y: Labels) -> float:
    """Returns the share of rows ``x`` to which a model gives the labels ``y``."""
    return float((model.query(x).labels == y).mean())


def evidence(
    name: str,
    test: Any,
    p: float,
    suspect: Oracle,
    before: int,
    caution: str,
    details: D,
    receipt: Receipt | None = None,
) -> Evidence[D]:
    """Returns the evidence of a test, whose p-value is multiplied by its tries and by the owner's commitments.

    Args:
        name: Name of the method.
        test: The test, a dataclass with ``alpha`` and ``tries``.
        p: Its p-value for one suspect.
        suspect: The suspect, after it was asked.
        before: Number of rows that it had answered before the test.
        caution: Limits of the p-value.
        details: The method's own results.
        receipt: The proof that a published log has the owner's commitment, if any.
    """
    p_value = min(1.0, test.tries * (1 if receipt is None else receipt.commitments) * p)
    return Evidence(
        method=name,
        verdict="accused" if p_value <= test.alpha else "inconclusive",
        p_value=p_value,
        alpha=test.alpha,
        suspect=suspect.card.model,
        suspect_queries=suspect.spent - before,
        settings=asdict(test),
        caution=caution,
        details=details,
        receipt=receipt,
    )
