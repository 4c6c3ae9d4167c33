"""Metamodels that read attributes of a black box off its answers (kennen-o).

Source: Oh, Augustin, Schiele, Fritz, "Towards Reverse-Engineering Black-Box Neural Networks", ICLR 2018, section
3.2 (kennen-o). The paper's kennen-i and kennen-io, which also craft the queries, are not here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from attacker.asking import NothingAnswered
from attacker.extraction.targets import targets
from attacker.inspection.inspection import attributes
from attacker.surrogate import new_seed
from wire import Array, BadInput, Oracle
from zoo.data.pool import Pool
from zoo.model import Model


@dataclass(frozen=True)
class Metamodel:
    """kennen-o: a classifier of models, whose input is their answers to the same rows (ICLR 2018).

    The attacker trains many models of his own, built in different ways, and asks each about ``queries`` rows. A
    perceptron of two hidden layers learns every attribute from the answers, side by side, and is then shown the
    victim's answers. If the victim tells labels only, the attacker's models do so too.

    Attributes:
        queries: Rows to query.
        hidden: Units of each hidden layer.
        epochs: Passes over the models.
        batch: Models per step.
        lr: Learning rate of Adam.
        weight_decay: L2 penalty on the weights.
    """

    queries: int = 100
    hidden: int = 1000
    epochs: int = 100
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        if min(self.queries, self.hidden, self.epochs) < 1 or self.batch < 2 or not self.lr > 0:
            raise BadInput(f"{self}: batch must be at least 2, and the other numbers greater than 0")

    def inspect(
        self, oracle: Oracle, models: Sequence[Model], pool: Pool, rng: np.random.Generator
    ) -> Mapping[str, str]:
        """Queries rows of the pool, and trains the metamodel; see :class:`~.inspection.Inspection`.

        Raises:
            BadInput: The models do not differ, or the pool has no rows.
            NothingAnswered: Not all rows were answered; the metamodel needs the answers to the same rows.
        """
        x = self.chosen(pool, rng)
        answer = oracle.collect(x)
        if len(answer) < len(x):
            raise NothingAnswered(
                f"{len(answer)} of {len(x)} rows were answered, and all are needed: {oracle.ended}"
            )
        given = targets(answer, models[0].card().classes)
        known = np.stack([model.predict(x) for model in models])
        if answer.probs is None:
            known = np.eye(known.shape[2], dtype=np.float32)[known.argmax(axis=2)]
        return self.read(known, attributes(models), given[None], seed=new_seed(rng))[0]

    def chosen(self, pool: Pool, rng: np.random.Generator) -> Array:
        """Returns the rows that are queried, ``(n, *input_shape)``, drawn from a pool.

        Raises:
            BadInput: The pool has no rows.
        """
        if not len(pool):
            raise BadInput("the pool has no rows; expected rows to query")
        return np.asarray(pool.x[rng.permutation(len(pool))[: self.queries]])

    def read(
        self, known: Array, built: Sequence[Mapping[str, str]], given: Array, *, seed: int
    ) -> list[dict[str, str]]:
        """Returns the likeliest attributes of each victim.

        Args:
            known: Answers of the attacker's models, ``(m, n, k)``.
            built: The attributes of these models.
            given: Answers of the victims to the same rows, ``(v, n, k)``.
            seed: Seed of the metamodel.

        Raises:
            BadInput: There are no models, or they do not differ.
        """
        if not built or not built[0]:
            raise BadInput("the attacker's models are built alike; expected models that differ in some attribute")
        values = {name: sorted({one[name] for one in built}) for name in built[0]}
        wanted = {name: torch.tensor([of.index(one[name]) for one in built]) for name, of in values.items()}
        own, theirs = (torch.from_numpy(part.reshape(len(part), -1)).float() for part in (known, given))
        mean, spread = own.mean(dim=0), own.std(dim=0).clamp(min=1e-3)
        own, theirs = (own - mean) / spread, (theirs - mean) / spread
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            trunk = nn.Sequential(
                *(nn.Linear(own.shape[1], self.hidden), nn.ReLU(), nn.Linear(self.hidden, self.hidden), nn.ReLU())
            )
            heads = nn.ModuleList([nn.Linear(self.hidden, len(of)) for of in values.values()])
        search = torch.optim.Adam(
            [*trunk.parameters(), *heads.parameters()], self.lr, weight_decay=self.weight_decay
        )
        order = torch.Generator().manual_seed(seed)
        for _ in range(self.epochs):
            for rows in torch.split(torch.randperm(len(own), generator=order), self.batch):
                features = trunk(own[rows])
                losses = [
                    functional.cross_entropy(head(features), classes[rows])
                    for head, classes in zip(heads, wanted.values(), strict=True)
                ]
                search.zero_grad(set_to_none=True)
                torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]
                search.step()
        with torch.no_grad():
            features = trunk(theirs)
            told = [head(features).argmax(dim=1).tolist() for head in heads]
        return [
            {name: of[column[row]] for (name, of), column in zip(values.items(), told, strict=True)}
            for row in range(len(given))
        ]
