"""The protocol of an inspection, and the attributes of a model that one may read off."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from wire import Oracle
from zoo.data.pool import Pool
from zoo.families import name_of
from zoo.model import Model


@runtime_checkable
class Inspection(Protocol):
    """A frozen dataclass of hyper-parameters that tells from answers how a model was built."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def inspect(
        self, oracle: Oracle, models: Sequence[Model], pool: Pool, rng: np.random.Generator
    ) -> Mapping[str, str]:
        """Returns the likeliest value of each attribute of the victim.

        Args:
            oracle: The victim's oracle.
            models: The attacker's own models, with the victim's rows and classes, built in different ways.
            pool: Rows to query.
            rng: Source of all randomness.
        """
        ...


def attributes(models: Sequence[Model]) -> list[dict[str, str]]:
    """Returns how each model was built: those fields of family and training that differ between the models."""
    built = [_built(model) for model in models]
    names = {name: None for one in built for name in one}
    differ = [name for name in names if len({one.get(name, "none") for one in built}) > 1]
    return [{name: one.get(name, "none") for name in differ} for one in built]


def _built(model: Model) -> dict[str, str]:
    fields = {"family": name_of(model.family), **dataclasses.asdict(model.family)}
    if model.training is not None:
        fields |= dataclasses.asdict(model.training)
    return {name: str(value) for name, value in fields.items()}
