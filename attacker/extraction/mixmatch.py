"""Semi-supervised extraction: MixMatch over answered rows and rows that are not asked about.

Sources: Jagielski, Carlini, Berthelot, Kurakin, Papernot, "High Accuracy and High Fidelity Extraction of Neural
Networks", USENIX Security 2020, section 4 (semi-supervised learning of few answers); Berthelot, Carlini,
Goodfellow, Papernot, Oliver, Raffel, "MixMatch: A Holistic Approach to Semi-Supervised Learning", NeurIPS 2019,
section 3.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from attacker.asking import some
from attacker.extraction.targets import targets
from attacker.surrogate import class_names, family_named, new_seed, numbers, own_model
from wire import BadInput, Oracle
from zoo.augment import Augment
from zoo.data.pool import Pool
from zoo.network import Network


@dataclass(frozen=True)
class MixMatch:
    """MixMatch: a Knockoff whose surrogate also learns from the rows that it does not ask about (2019, 2020).

    Rows are drawn from the pool as by the random Knockoff. In each step the surrogate guesses the answer about
    ``guesses`` changed copies of unanswered rows: their mean, sharpened by a temperature. Answered and unanswered
    rows are then mixed with one another in pairs (MixUp), and the surrogate learns answers by cross-entropy, and
    guesses by the squared difference, whose weight rises over the steps. The surrogate is the exponential mean of
    the weights. Answers are learnt as they are told, also where they are labels alone.

    Sharpening, copies, mixing, mean and the weight of the guesses are the paper's for CIFAR-10. Images are changed
    by shifts, and by flips where these keep their class. Rows that are no images are guessed about as they are.

    Attributes:
        steps: Steps of training.
        batch: Answered rows, and unanswered ones, per step.
        guesses: Copies of an unanswered row, K.
        temperature: Temperature T that sharpens guesses.
        mixing: Parameter alpha of the beta distribution of the mixing ratio.
        weight: Greatest weight lambda of the guesses.
        mean: Part of the mean weights that each step keeps.
        shift: Most pixels by which images are shifted.
        flip: Whether images are also flipped horizontally at random.
        family: Family of the surrogate: softmax, logistic, mlp, cnn, resnet or torchvision.
        lr: Learning rate of Adam.
    """

    steps: int = 10_000
    batch: int = 64
    guesses: int = 2
    temperature: float = 0.5
    mixing: float = 0.75
    weight: float = 75.0
    mean: float = 0.999
    shift: int = 2
    flip: bool = False
    family: str = "cnn"
    lr: float = 2e-3

    def __post_init__(self) -> None:
        if min(self.steps, self.guesses) < 1 or self.batch < 2 or self.shift < 0:
            raise BadInput(f"{self}: batch must be at least 2, steps and guesses at least 1, shift at least 0")
        if not (min(self.temperature, self.mixing, self.lr) > 0 <= self.weight and 0 <= self.mean < 1):
            raise BadInput(
                f"{self}: temperature, mixing and lr must be positive, weight not negative, mean from 0 to below 1"
            )

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Queries rows of the pool, each at most once, and trains on all of them; see :class:`Extraction`."""
        rows = numbers(pool.x)[rng.permutation(len(pool))]
        told = targets(some(oracle, rows), len(class_names(oracle.card)))
        network = own_model(oracle.card, family_named(self.family), seed=new_seed(rng))
        x, y, others = rows[: len(told)], torch.from_numpy(told), rows[len(told) :]
        others = others if len(others) else x  # all rows are answered: guesses only keep it smooth
        randomness = torch.Generator().manual_seed(new_seed(rng))
        change = Augment(self.shift, self.flip) if x.ndim == 4 else None
        learns = torch.optim.Adam(network.module.parameters(), self.lr)
        averaged = copy.deepcopy(network.module)

        def drawn(of: np.ndarray, at: np.ndarray) -> torch.Tensor:
            part = torch.from_numpy(of[at])
            return part if change is None else change(part, randomness)

        network.module.train()
        for step in tqdm(range(self.steps), desc="mixmatch", unit="step", leave=False, dynamic_ncols=True):
            known = rng.integers(len(x), size=self.batch)
            unknown = rng.integers(len(others), size=self.batch)
            guessed = [drawn(others, unknown) for _ in range(self.guesses)]
            guess = self._guess(network.module, torch.cat(guessed)).repeat(self.guesses, 1)
            both = torch.cat([drawn(x, known), *guessed]), torch.cat([y[torch.from_numpy(known)], guess])
            mixed, aim = self._mixed(*both, rng)
            logits = network.module(mixed.to(network.device)).cpu()
            loss = functional.cross_entropy(logits[: self.batch], aim[: self.batch])
            apart = functional.mse_loss(logits[self.batch :].softmax(dim=1), aim[self.batch :])
            learns.zero_grad(set_to_none=True)
            (loss + self.weight * (step + 1) / self.steps * apart).backward()  # type: ignore[no-untyped-call]
            learns.step()
            keep = min(self.mean, (step + 1) / (step + 10))
            with torch.no_grad():
                for old, new in zip(
                    averaged.state_dict().values(), network.module.state_dict().values(), strict=True
                ):
                    old.copy_(keep * old + (1 - keep) * new if old.is_floating_point() else new)
        network.module.load_state_dict(averaged.state_dict())
        network.module.eval()
        return network

    def _guess(self, module: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        """Returns the sharpened mean answer about the copies of each row, ``(n, k)``."""
        with torch.no_grad():
            device = next(module.parameters()).device
            answers = module(x.to(device)).cpu().softmax(dim=1)
            sharp = answers.reshape(self.guesses, -1, answers.shape[1]).mean(dim=0) ** (1 / self.temperature)
            guess: torch.Tensor = sharp / sharp.sum(dim=1, keepdim=True)
            return guess

    def _mixed(
        self, x: torch.Tensor, y: torch.Tensor, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixes each row and its answer with another's, which weighs at most as much."""
        order = torch.from_numpy(rng.permutation(len(x)))
        drawn = rng.beta(self.mixing, self.mixing, len(x)).astype(np.float32)
        share = torch.from_numpy(np.maximum(drawn, 1 - drawn))
        wide = share.reshape(-1, *[1] * (x.dim() - 1))
        return wide * x + (1 - wide) * x[order], share[:, None] * y + (1 - share[:, None]) * y[order]
