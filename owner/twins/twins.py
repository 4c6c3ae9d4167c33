"""The victim and its twins, as a test of ownership sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tqdm import tqdm

from owner.commitment import Receipt
from wire import Answer, Array, BadInput, Card, Labels
from wire.fits import misfit
from wire.oracle import Transport
from zoo.data.pool import Pool

Predict = Callable[[Array], Array]


def answering(predict: Predict) -> Transport:
    """Returns a model's labels and probabilities as an answer to rows."""

    def answer(x: Array) -> Answer:
        probs = predict(x)
        return Answer(probs.argmax(axis=1), probs)

    return answer


@dataclass(frozen=True, eq=False)
class Twins:
    """M + 1 models of one recipe, each with a secret seed of its own and its own random rows.

    Attributes:
        models: The models: each maps rows, ``(n, *input_shape)``, to probabilities, ``(n, k)``.
        victim: Number of the victim among them.
        card: The models' card.
        reference: Rows that trained none of the models.
        root: The commitment to all of this, in hexadecimal.
        settings: The settings of each test that the commitment names, by the test's name.
        guessable_seed: Whether the victim's seed is so small that others may have used it too.
        receipt: The commitment's place in the owner's log; None if it is not there.
    """

    models: Sequence[Predict]
    victim: int
    card: Card
    reference: Pool
    root: str
    settings: Mapping[str, Mapping[str, int | float]]
    guessable_seed: bool = False
    receipt: Receipt | None = None

    @property
    def count(self) -> int:
        """Number of models, M + 1."""
        return len(self.models)

    @property
    def commitments(self) -> int:
        """Number of the owner's commitments, of which he could show the best; multiplies the p-values."""
        return 1 if self.receipt is None else self.receipt.commitments

    def predict(self, x: Array) -> Array:
        """Returns the probabilities of all models for rows ``x``, ``(M + 1, n, k)`` float32."""
        bar = tqdm(self.models, desc="twins", unit="model", leave=False, dynamic_ncols=True)
        return np.stack([model(x) for model in bar])

    @cached_property
    def labels(self) -> Labels:
        """The labels of all models for the reference rows, ``(M + 1, n)``."""
        return np.asarray(self.predict(self.reference.x).argmax(axis=2))

    def check_settings(self, test: str, settings: Mapping[str, int | float]) -> None:
        """Raises :class:`~wire.BadInput` if the settings of a test are not those of the commitment."""
        committed = self.settings.get(test, {})
        for name, value in settings.items():
            if committed.get(name) != value:
                raise BadInput(f"{name} is {value}, but the study committed to {committed.get(name)}")

    def check_fit(self, card: Card) -> None:
        """Raises :class:`~wire.BadInput` if a model does not take the reference rows or has other classes."""
        if wrong := misfit(self.reference.x, card):
            raise BadInput(f"the reference rows: {wrong}")
        if card.classes not in (0, self.card.classes):
            raise BadInput(
                f"model {card.model} has {card.classes} classes, but the twins have {self.card.classes}"
            )


def untrained(reference: Pool, trained: Pool) -> Pool:
    """Returns the reference rows that are not among the rows from which the models were trained.

    Raises:
        BadInput: The pools differ in form, or no row is left.
    """
    forms = [(pool.input_shape, pool.dtype, pool.missing, pool.features) for pool in (reference, trained)]
    if forms[0] != forms[1]:
        raise BadInput(f"the reference rows {forms[0][0]} are not of the form of the training rows {forms[1][0]}")
    known = set(map(_key, trained.x))
    fresh = np.array([_key(row) not in known for row in reference.x], bool)
    if not fresh.any():
        raise BadInput(
            f"all {len(reference)} reference rows are among those that the victim or its twins were trained on; "
            "expected rows that trained none of them"
        )
    return reference.take(np.flatnonzero(fresh))


def _key(row: Any) -> Any:
    return row if isinstance(row, str) else row.tobytes()
