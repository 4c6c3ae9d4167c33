"""The protocol that every proof keeps."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from owner.evidence import Evidence
from wire import Oracle
from zoo.data.pool import Pool


class Proof(Protocol):
    """A way for an owner to test a suspect; a frozen dataclass whose fields are its hyper-parameters."""

    def verify(
        self, suspect: Oracle, victim: Oracle, private: Pool, unseen: Pool, rng: np.random.Generator
    ) -> Evidence:
        """Tests whether the suspect derives from the victim.

        Args:
            suspect: The suspected model.
            victim: The owner's model.
            private: Rows on which the victim was trained, with their labels.
            unseen: Rows of the same distribution on which neither was trained, with theirs.
            rng: Source of randomness.

        Raises:
            BadInput: The pools do not fit the models; nothing was asked.
            WireError: A model stopped answering.
        """
        ...
