"""Query, Answer and Card: the data exchanged between an account and a victim."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]


class Origin(NamedTuple):
    """The sender of a request as far as a server knows it, besides the account; unknown attributes are empty.

    Attributes:
        prefix: Keyed hash of the network prefix.
        fingerprint: Keyed hash of what the client's software shows of itself.
        plan: Name of the account's plan.
        opened: When the account was made, in seconds since the epoch, to the hour.
        payment: Keyed hash of the payment token that the operator gave the account.
    """

    prefix: str = ""
    fingerprint: str = ""
    plan: str = ""
    opened: int = 0
    payment: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Query:
    """A batch of rows that one account sent at one time.

    Attributes:
        account: Name of the account, resolved from its key before any defence runs.
        x: Rows, ``(n, *input_shape)``, in the wire's dtype; texts are an ``(n,)`` array of str objects.
        at: Seconds since the epoch, set once by the route: the only clock that a defence reads.
        idempotency_key: Identifies a request of the account, so that a retry is billed once; None if the client
            gave none.
        origin: Where it comes from; None unless the server notes that.
    """

    account: str
    x: Array
    at: float
    idempotency_key: str | None = None
    origin: Origin | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """The answer to a batch of rows.

    Attributes:
        labels: Class indices, ``(n,)`` int64; all 0 from an encoder, which has no classes.
        probs: Class probabilities, ``(n, k)`` float32, or float64 where rows are FP64, NaN where withheld; None if
            only labels are disclosed.
        leaves: The leaf of each tree that a row reaches, ``(n, trees)`` int64, numbered within its tree, -1 where
            withheld; None if leaves are not disclosed, or the model has no trees. A layer that changes an answer
            leaves them out, since they would undo the change.
        embeddings: What an encoder answers, ``(n, d)`` float32; None from a classifier.
    """

    labels: Labels
    probs: Array | None = None
    leaves: Array | None = None
    embeddings: Array | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | Array) -> Answer:
        return Answer(self.labels[rows], *[None if part is None else part[rows] for part in self._told])

    @property
    def _told(self) -> tuple[Array | None, ...]:
        return self.probs, self.leaves, self.embeddings

    @staticmethod
    def of_embeddings(embeddings: Array) -> Answer:
        """Returns an encoder's answer: embeddings, ``(n, d)``."""
        return Answer(np.zeros(len(embeddings), np.int64), embeddings=embeddings.astype(np.float32, copy=False))

    @staticmethod
    def join(parts: Sequence[Answer]) -> Answer:
        """Concatenates answers to consecutive batches; without parts, the answer has no rows.

        If only some parts have probabilities, the rows of the others get NaN; likewise -1 as leaves.
        """
        if not parts:
            return Answer(np.empty(0, np.int64))
        if len(parts) == 1:
            return parts[0]
        lengths = [len(part) for part in parts]
        return Answer(
            np.concatenate([part.labels for part in parts]),
            _joined([part.probs for part in parts], lengths, np.float32(np.nan)),
            _joined([part.leaves for part in parts], lengths, np.int64(-1)),
            _joined([part.embeddings for part in parts], lengths, np.float32(np.nan)),
        )


def _joined(parts: Sequence[Array | None], lengths: Sequence[int], withheld: np.generic) -> Array | None:
    """Concatenates parts, ``(n, m)``, filling in those that were withheld; None if all were."""
    columns = next((part.shape[1] for part in parts if part is not None), None)
    if columns is None:
        return None
    filled = (np.full((n, columns), withheld) if p is None else p for p, n in zip(parts, lengths, strict=True))
    return np.concatenate([*filled])


@dataclass(frozen=True, slots=True)
class Feature:
    """A feature of a table.

    Attributes:
        name: Its name.
        categories: Names of its categories, in the order of their codes 0, 1, ...; empty for a numeric feature.
        low: Least value in the model's training rows; None if unknown. Other values are accepted too, and features
            that differ only in their range are equal.
        high: Greatest value, likewise.
    """

    name: str
    categories: tuple[str, ...] = ()
    low: float | None = field(default=None, compare=False, repr=False)
    high: float | None = field(default=None, compare=False, repr=False)


def code_fault(feature: Feature, values: Array) -> str | None:
    """Describes a value, ``(n,)``, that is not a code of the feature's categories; None if there is none.

    NaN stands for a missing value and is no fault.
    """
    if not feature.categories:
        return None
    wrong = values[(values < 0) | (values >= len(feature.categories)) | (values != np.floor(values))]
    wrong = wrong[~np.isnan(wrong)]
    if not len(wrong):
        return None
    return f"feature {feature.name!r} holds {wrong[0]:g}; expected codes from 0 to {len(feature.categories) - 1}"


BLUR = ("top_k", "digits", "temperature", "noise")
"""The fields of a card that say how its server blurs probabilities."""


@dataclass(frozen=True, slots=True)
class Card:
    """A description of a served model, as one account sees it.

    Attributes:
        model: Name of the model.
        input_shape: Shape of one row, without the batch axis; ``()`` for a text.
        classes: Number of classes k; 0 for an encoder, or if a foreign server does not report it.
        version: Version of the model.
        dtype: The protocol's datatype of the rows, such as ``FP32``; ``BYTES`` for texts.
        low: Least value of a feature, None if unbounded.
        high: Greatest value of a feature, None if unbounded.
        max_rows: Maximum number of rows in one request.
        tells_probs: Whether probabilities are disclosed, not only labels.
        top_k: Number of largest probabilities disclosed per row; None if all are.
        digits: Number of decimals to which probabilities are rounded; None if they are not rounded.
        temperature: Temperature by which the logits were divided; None if they were not, or if the probabilities
            were also perturbed.
        noise: Standard deviation of the noise that was added to the probabilities before they were clipped at 0
            and normalised; None if none was.
        embedding: Length d of an encoder's answers, which are embeddings and no classes; 0 for a classifier.
        trees: Number of the model's trees, if the leaves that a row reaches are disclosed; 0 if they are not.
        class_names: Names of the classes, empty if unknown.
        missing: Whether a feature may be missing (NaN).
        features: The features of a table, in order; empty if they have no names.
        input_name: Name of the input tensor.
        outputs: Output tensors to request, as pairs of a name and its content: ``labels``, ``probs``,
            ``logits``, ``leaves`` or ``embedding``.
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
    noise: float | None = None
    embedding: int = 0
    trees: int = 0
    class_names: tuple[str, ...] = ()
    missing: bool = False
    features: tuple[Feature, ...] = ()
    input_name: str = "input"
    outputs: tuple[tuple[str, str], ...] = (("labels", "labels"), ("probabilities", "probs"))
