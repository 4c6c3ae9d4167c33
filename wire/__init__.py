"""The contract between the parties: queries, answers, and the only way to reach a victim."""

import wire.openmp  # noqa: F401
from wire.errors import BadInput, BudgetSpent, Malformed, Refused, Unreachable, WireError
from wire.oracle import Oracle, Prices, Transport
from wire.types import Answer, Array, Card, Feature, Labels, Origin, Query

__all__ = [
    "Answer",
    "Array",
    "BadInput",
    "BudgetSpent",
    "Card",
    "Feature",
    "Labels",
    "Malformed",
    "Oracle",
    "Origin",
    "Prices",
    "Query",
    "Refused",
    "Transport",
    "Unreachable",
    "WireError",
]
