"""A lottery: a victim with its twins, and how they compare with suspects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from tqdm import tqdm

from experiments.studies.designs import Design, climbed, mixed
from experiments.studies.evasions import Predict
from experiments.studies.suspects import Suspects, labels_of
from owner.twin_test import TwinTest, similarity
from owner.twins.answers import Holdings
from owner.twins.twins import Twins
from wire import Array
from zoo.data.pool import Pool
from zoo.network import Network


class Seen(NamedTuple):
    """The reference rows as the world sees them, and what makes of rows those that the models take."""

    reference: Pool
    features: Callable[[Array], Array]
    tensor: Callable[[torch.Tensor], torch.Tensor]

    @staticmethod
    def unchanged(reference: Pool) -> Seen:
        """Returns rows that the models take as they are."""
        return Seen(reference, lambda x: x, unchanged)


@dataclass(frozen=True, eq=False)
class Lottery:
    """A victim with its twins, and their answers to the queries of the twin test.

    Attributes:
        models: All M + 1 models.
        x: The queries, as the models take them.
        chosen: Number of chosen reference rows.
        probs: The models' probabilities for the queries, ``(M + 1, n, k)``.
    """

    models: Sequence[Network]
    x: Array
    chosen: int
    probs: Array

    @classmethod
    def drawn(cls, suspects: Suspects, count: int, seen: Seen, design: Design = "copies") -> Lottery:
        """Trains the models, and chooses the queries by the rule of the twin test, or by another design."""
        models = [suspects.victim(1 + n) for n in tqdm(range(count), desc="twins", unit="model", leave=False)]
        asked = [partial(_through, model, seen.features) for model in models]
        test, card = TwinTest(copies=design == "copies"), seen.reference.card()
        twins = Twins(asked, 0, card, seen.reference, "", {"twin-test": test.committed()})
        study = test.prepare(Holdings(twins, {}), np.random.default_rng(0))
        if design == "copies":
            return cls(models, seen.features(study.x), len(study.answers.chosen), study.answers.probs)
        made = mixed(seen.reference.x, twins.labels, twins.predict)
        if design == "climbed":
            made = climbed(made, [partial(_logits, model, seen.tensor) for model in models])
        x = np.concatenate([study.x, made])
        return cls(models, seen.features(x), len(study.answers.chosen), twins.predict(x))

    def z(self, suspects: Sequence[Predict], without: int | None = None) -> Array:
        """Returns the z of each model as the victim, ``(s, M + 1)``, perhaps without one of the models."""
        probs = self.probs if without is None else np.delete(self.probs, without, axis=0)
        found = [
            standing(similarity(probs, np.stack([labels_of(one, self.x) for one in part]), TwinTest().ridge))
            for part in _parts(suspects)
        ]
        return np.concatenate(found) if found else np.empty((0, len(probs)))


def standing(similarities: Array) -> Array:
    """Returns z of each model as the victim, of ``(s, M + 1)`` similarities, as the twin test does."""
    count = similarities.shape[1]
    mean = (similarities.sum(axis=1, keepdims=True) - similarities) / (count - 1)
    square = (np.square(similarities).sum(axis=1, keepdims=True) - np.square(similarities)) / (count - 1)
    spread = np.sqrt((square - mean**2) * (count - 1) / (count - 2))
    return np.asarray((similarities - mean) / (spread * np.sqrt(1 + 1 / (count - 1))))


def t_tail(z: Array, twins: int) -> Array:
    """Returns the p-values of Student's t for z."""
    return np.asarray(stats.t.sf(z, twins - 1))


def _parts(suspects: Sequence[Predict], size: int = 25) -> Iterator[Sequence[Predict]]:
    for start in range(0, len(suspects), size):
        yield suspects[start : start + size]


def unchanged(rows: torch.Tensor) -> torch.Tensor:
    """Returns the rows, for models that have no front end."""
    return rows


def _through(model: Network, features: Callable[[Array], Array], x: Array) -> Array:
    return model.predict(features(x))


def _logits(model: Network, tensor: Callable[[torch.Tensor], torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model.module(tensor(rows))
    return logits
