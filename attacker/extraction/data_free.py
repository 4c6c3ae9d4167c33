"""Data-free model extraction (DFME).

Source: Truong, Maini, Walls, Papernot, "Data-Free Model Extraction", CVPR 2021, sections 3 and 4; the
hyper-parameters are those of the authors' code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch.optim import lr_scheduler
from tqdm import tqdm

from attacker.asking import NotApplicable, needs_probs, some
from attacker.extraction.generator import directions, generator
from attacker.surrogate import family_named, new_seed, own_model
from wire import BadInput, Oracle
from wire.fits import ranges
from zoo.data.pool import Pool
from zoo.network import Network

LEAST = 1e-10  # a probability that is 0
DROPS = (0.1, 0.3, 0.5)  # shares of the iterations after which the learning rates fall to 0.3 of what they were


class _Stopped(Exception):
    """The victim stopped answering, or the budget is spent."""


@dataclass(frozen=True)
class DataFree:
    """DFME: a generator makes the rows on which surrogate and victim disagree most (CVPR 2021).

    The surrogate minimises, and the generator maximises, the l1 distance of their logits. The victim's are
    recovered from its probabilities, up to their mean: ``log p - mean log p``. The victim tells no gradient, so
    the generator's is estimated by forward differences of the loss along random directions, on rows before the
    nonlinearity that bounds them. An iteration asks about ``batch * (generator_steps * (directions + 1) +
    surrogate_steps)`` rows.

    Attributes:
        rows: Rows to query.
        queries: What the surrogate learns from: the generator's rows, or, as a control, uniformly random ones.
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision.
        batch: Rows per step.
        surrogate_steps: Steps of the surrogate in an iteration.
        generator_steps: Steps of the generator in an iteration.
        directions: Directions of an estimated gradient.
        epsilon: Length of a forward difference.
        latent: Length of the generator's noise.
        width: Channels of the generator's first convolution.
        lr: Learning rate of the surrogate's gradient descent.
        generator_lr: Learning rate of the generator's Adam.
    """

    rows: int = 2_000_000
    queries: Literal["generator", "random"] = "generator"
    family: str = "cnn"
    batch: int = 256
    surrogate_steps: int = 5
    generator_steps: int = 1
    directions: int = 1
    epsilon: float = 1e-3
    latent: int = 256
    width: int = 128
    lr: float = 0.1
    generator_lr: float = 1e-4

    def __post_init__(self) -> None:
        counts = (self.rows, self.surrogate_steps, self.generator_steps, self.directions, self.latent, self.width)
        if min(counts) < 1 or self.batch < 2:
            raise BadInput(f"{self}: batch must be at least 2, and the other numbers at least 1")
        if not min(self.epsilon, self.lr, self.generator_lr) > 0:
            raise BadInput(f"{self}: epsilon and the learning rates must be greater than 0")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Trains generator and surrogate in turn; see :class:`Extraction`.

        Raises:
            NotApplicable: The model discloses labels only, or some of the probabilities.
            BadInput: The range of a feature is not known.
        """
        needs_probs(oracle.card)
        if oracle.card.top_k is not None:
            raise NotApplicable("some probabilities are withheld, so that the logits are not told")
        ends = ranges(oracle.card)
        low, high = (torch.tensor(end, dtype=torch.float32) for end in ends)
        network = own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        seed, generated = new_seed(rng), self.queries == "generator"
        randomness = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            makes = generator(oracle.card.input_shape, self.latent, self.width)

        def bounded(raw: torch.Tensor) -> torch.Tensor:
            return low + (high - low) * (1 + raw.tanh()) / 2

        def made() -> torch.Tensor:
            noise = torch.randn(self.batch, self.latent, generator=randomness)
            raw: torch.Tensor = makes(noise)
            return raw

        def uniform() -> torch.Tensor:
            return low + (high - low) * torch.rand((self.batch, *low.shape), generator=randomness)

        def told(x: torch.Tensor) -> torch.Tensor:
            rows = x.numpy()
            answer = oracle.collect(rows) if oracle.spent else some(oracle, rows)
            if len(answer) < len(rows) or answer.probs is None:
                raise _Stopped
            logs = torch.from_numpy(np.maximum(answer.probs, LEAST)).log()
            return logs - logs.mean(dim=1, keepdim=True)

        def distance(x: torch.Tensor) -> torch.Tensor:
            far: torch.Tensor = (network.module(x.to(network.device)).cpu() - told(x)).abs().mean(dim=1)
            return far

        asks = self.surrogate_steps
        asks += self.generator_steps * (self.directions + 1) if generated else 0
        iterations = max(self.rows // (self.batch * asks), 1)
        learns = torch.optim.SGD(network.module.parameters(), self.lr, momentum=0.9, weight_decay=5e-4)
        leads = torch.optim.Adam(makes.parameters(), self.generator_lr)
        schedules = [
            _falling(optimizer, iterations) for optimizer in ((learns, leads) if generated else (learns,))
        ]
        network.module.train()
        try:
            for _ in tqdm(range(iterations), desc="data-free", unit="iteration", leave=False, dynamic_ncols=True):
                for _ in range(self.generator_steps if generated else 0):
                    _step(leads, self._ascent(made(), bounded, distance, randomness))
                for _ in range(self.surrogate_steps):
                    _step(learns, distance(bounded(made().detach()) if generated else uniform()).mean())
                for schedule in schedules:
                    schedule.step()
        except _Stopped:
            pass  # the surrogate is what the answers so far made of it
        network.module.eval()
        return network

    def _ascent(
        self,
        raw: torch.Tensor,
        bounded: Callable[[torch.Tensor], torch.Tensor],
        distance: Callable[[torch.Tensor], torch.Tensor],
        randomness: torch.Generator,
    ) -> torch.Tensor:
        """Returns a value whose gradient is the negative estimated gradient of the distance (equation 5)."""
        with torch.no_grad():
            here, estimate = distance(bounded(raw)), torch.zeros_like(raw)
            for _ in range(self.directions):
                along = directions(raw, randomness)
                there = distance(bounded(raw + self.epsilon * along))
                slope = (there - here) / self.epsilon
                estimate += slope.reshape(-1, *[1] * (raw.dim() - 1)) * along
            estimate *= raw[0].numel() / self.directions
        return -(raw * estimate).sum() / len(raw)


def _falling(optimizer: torch.optim.Optimizer, iterations: int) -> lr_scheduler.LRScheduler:
    drops = [max(round(share * iterations), 1) for share in DROPS]
    return lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.3)


def _step(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
