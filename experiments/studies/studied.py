"""Suspects of a prepared study: its victim and twins take the place of models that a lottery trains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from experiments.studies.suspects import Suspects
from owner.twins import study as studies
from owner.twins.plan import Plan, drawn
from wire import BadInput, Labels
from zoo import folder
from zoo.network import Network


@dataclass(frozen=True)
class Studied(Suspects):
    """Trains suspects of the victim and the twins of a study; model 1 is the victim.

    Attributes:
        prepared: The folder of the study.
    """

    prepared: Path = Path("study")

    @cached_property
    def plan(self) -> Plan:
        """The study's plan.

        Raises:
            BadInput: The study was made of other rows.
        """
        plan = studies.read(self.prepared)
        for name, role in (("private", "victim"), ("unseen", "unseen"), ("reference", "reference")):
            if plan.pools.get(name) != self.held[role].fingerprint:
                raise BadInput(f"{self.prepared}: its {name} rows are not those of the role {role}; check --seed")
        return plan

    def victim(self, number: int) -> Network:
        """Returns the victim or a twin, by its number from 1."""
        path = studies.model_folder(self.prepared, number - 1)
        if number > 1 + self.plan.twins or not path.exists():
            raise BadInput(f"{self.prepared} has no model {number - 1}")
        return folder.load(path).network()

    def _chosen(self, number: int) -> Labels:
        if number == 1:
            return np.arange(self.plan.rows)
        return drawn(self.plan.secret, number - 1, len(self.known), self.plan.rows)[1]
