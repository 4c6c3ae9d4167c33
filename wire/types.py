"""Query, Answer and Card: what goes between an account and a victim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Query:
    """A batch of rows that one account asked about at one moment.

    Attributes:
        account: Name of the account, resolved from its key before any defence runs.
        x: Rows, ``(n, *input_shape)``, in the wire's dtype; texts are an ``(n,)`` array of str objects.
        at: Seconds since the epoch, stamped once by the route: the only clock a defence reads.
        idempotency_key: Names one request of the account, so that a retry of it is billed once; None if the
            client named none.
    """

    account: str
    x: Array
    at: float
    idempotency_key: str | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """What is told about a batch of rows.

    Attributes:
        labels: Class indices, ``(n,)`` int64.
        probs: Class probabilities, ``(n, k)`` float32, NaN where one is withheld; None where only labels
            are told.
    """

    labels: Labels
    probs: Array | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice) -> Answer:
        return Answer(self.labels[rows], None if self.probs is None else self.probs[rows])

    @staticmethod
    def join(parts: Sequence[Answer]) -> Answer:
        """Puts answers to consecutive batches together; no parts make an answer about no rows.

        Where only some of them tell probabilities, those of the others are withheld.
        """
        if not parts:
            return Answer(np.empty(0, np.int64))
        labels = np.concatenate([part.labels for part in parts])
        classes = next((part.probs.shape[1] for part in parts if part.probs is not None), None)
        if classes is None:
            return Answer(labels)
        withheld = np.full((1, classes), np.nan, np.float32)
        return Answer(
            labels,
            np.concatenate([withheld.repeat(len(p), axis=0) if p.probs is None else p.probs for p in parts]),
        )


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of a table.

    Attributes:
        name: Its name.
        categories: Names of its categories, in the order of their codes 0, 1, ...; empty where it is a number.
    """

    name: str
    categories: tuple[str, ...] = ()


def code_fault(feature: Feature, values: Array) -> str | None:
    """Says what is wrong with the values of a category, ``(n,)``, NaN where missing; None if nothing is."""
    if not feature.categories:
        return None
    wrong = values[(values < 0) | (values >= len(feature.categories)) | (values != np.floor(values))]
    wrong = wrong[~np.isnan(wrong)]
    if not len(wrong):
        return None
    return f"feature {feature.name!r} holds {wrong[0]:g}; expected codes from 0 to {len(feature.categories) - 1}"


@dataclass(frozen=True, slots=True)
class Card:
    """What a served model says of itself, as one account sees it.

    Attributes:
        model: Name of the model.
        input_shape: Shape of one row, without the batch axis; that of a text is ``()``.
        classes: Number of classes k; 0 where a foreign server does not say.
        version: Version of the model.
        dtype: The protocol's datatype of the rows, ``FP32`` for instance; that of texts is ``BYTES``.
        low: Least value of a feature, None if unbounded.
        high: Greatest value of a feature, None if unbounded.
        max_rows: Most rows in one request.
        tells_probs: Whether probabilities are disclosed, or labels alone.
        top_k: How many of a row's probabilities are told, the greatest; None if all.
        digits: Decimals that they are rounded to; None if they are not.
        temperature: What their logits were divided by; None if that is not all that was done to them.
        class_names: Names of the classes, empty where unknown.
        missing: Whether a feature may be missing (NaN).
        features: The features of a table, in order; empty where they have no names.
        input_name: Name of the input tensor.
        outputs: Output tensors to ask for, as pairs of name and what it holds: ``labels``, ``probs`` or
            ``logits``.
    """

    model: str
    input_shape: tuple[int, ...]
    classes: int
    version: str = "1"
    dtype: str = "FP32"
    low: float | None = 0.0
    high: float | None = 1.0
    max_rows: int = 256
    tells_probs: bool = True
    top_k: int | None = None
    digits: int | None = None
    temperature: float | None = None
    class_names: tuple[str, ...] = ()
    missing: bool = False
    features: tuple[Feature, ...] = ()
    input_name: str = "input"
    outputs: tuple[tuple[str, str], ...] = (("labels", "labels"), ("probabilities", "probs"))
