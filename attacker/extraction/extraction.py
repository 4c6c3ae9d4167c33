"""The protocol of an extraction attack."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from wire import Oracle
from zoo.data.pool import Pool
from zoo.model import Model


@runtime_checkable
class Extraction(Protocol):
    """A frozen dataclass of hyper-parameters that steals a model through its answers."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Model:
        """Queries rows until the attack is done or the victim stops answering, and trains a surrogate.

        Args:
            oracle: The victim's oracle; if the victim stops answering early, ``oracle.ended`` holds the reason.
            pool: The attacker's own rows, perhaps none, perhaps with features that are missing; their labels, if
                there are any, are not used unless the attack says so.
            rng: Source of all randomness; the same seed queries the same rows.

        Returns:
            The surrogate, trained on all answered rows.

        Raises:
            NotApplicable: The model does not disclose what the attack needs.
            BadInput: The attack cannot use the pool's rows.
            WireError: Not a single row was answered.
        """
        ...
