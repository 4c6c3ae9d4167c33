"""The protocol that every extraction attack keeps."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from wire import Oracle
from zoo.data.pool import Pool
from zoo.network import Network


@runtime_checkable
class Extraction(Protocol):
    """A frozen dataclass that steals a model through its answers; its fields are its hyper-parameters."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Asks about rows until the attack is done or the answers end, and trains a surrogate.

        Args:
            oracle: The way to the victim; afterwards its ``ended`` says why the asking stopped early, if it did.
            pool: The attacker's own rows; only an attack that says so looks at their labels.
            rng: Source of all randomness: the same seed asks about the same rows.

        Returns:
            The surrogate, trained on all that was answered.

        Raises:
            WireError: Not a single row was answered.
        """
        ...
