"""The one training loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional
from torch.optim import lr_scheduler
from tqdm import tqdm

from wire import BadInput
from zoo.tensors import Tensors

MOST_CHECKPOINTS = 50


@dataclass(frozen=True)
class Training:
    """How a network is trained.

    Attributes:
        epochs: Passes over the rows.
        batch: Rows in one step.
        lr: Learning rate; with a schedule, the highest.
        optimizer: Adam, or stochastic gradient descent with momentum.
        momentum: Momentum of sgd.
        weight_decay: L2 penalty on the weights.
        schedule: The learning rate is constant, rises and falls once (Smith and Topin 2019), or drops to a tenth
            at half and again at three quarters of the steps (He et al. 2016).
        checkpoints: How many states of the weights are kept: after a hundredth of the steps, then at even
            distances; the last is the trained network itself. 0 keeps none; the detector HODA needs 11.
    """

    epochs: int = 8
    batch: int = 64
    lr: float = 4e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["one_cycle", "constant", "step"] = "one_cycle"
    checkpoints: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 1 or not 0 < self.lr < math.inf:
            raise BadInput(f"{self}: epochs must be at least 0, batch at least 1 and lr greater than 0 and finite")
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < math.inf):
            raise BadInput(f"{self}: momentum must lie between 0 and 1, and weight_decay be at least 0 and finite")
        if self.checkpoints and not 2 <= self.checkpoints <= MOST_CHECKPOINTS:
            raise BadInput(f"{self}: checkpoints must be 0 or lie between 2 and {MOST_CHECKPOINTS}")

    def steps(self, rows: int) -> int:
        """Returns the steps that it takes on so many rows."""
        return self.epochs * -(-rows // self.batch)

    def kept_after(self, rows: int) -> list[int]:
        """Returns after how many steps weights are kept, without the last step's, which are the network's own."""
        total, parts = self.steps(rows), self.checkpoints - 1
        return [max(-(-total // 100), -(-total * i // parts)) for i in range(parts)]


def train(
    module: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, training: Training, *, seed: int, label: str = ""
) -> list[Tensors]:
    """Trains a module in place by cross-entropy.

    Args:
        module: Maps rows to logits, ``(n, k)``.
        x: Rows, ``(n, *input_shape)``, on the device of the module.
        y: Class indices, ``(n,)`` int64, or probabilities of the classes, ``(n, k)``.
        training: How to train.
        seed: Seeds the order of the rows.
        label: What the progress bar calls it.

    Returns:
        The weights at all checkpoints but the last, on the CPU.
    """
    order = torch.Generator().manual_seed(seed)
    total, kept_after = training.steps(len(x)), training.kept_after(len(x))
    kept, step = list[Tensors](), 0
    optimizer = _optimizer(module, training)
    scheduler = _scheduler(optimizer, training, total)
    module.train()
    with tqdm(total=training.epochs, desc=label or "train", unit="epoch", leave=False, dynamic_ncols=True) as bar:
        for _ in range(training.epochs):
            loss_sum = torch.zeros((), device=x.device)
            for rows in torch.split(torch.randperm(len(x), generator=order).to(x.device), training.batch):
                loss = functional.cross_entropy(module(x[rows]), y[rows])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                scheduler.step()
                step += 1
                if step in kept_after:
                    kept.append({name: tensor.cpu().clone() for name, tensor in module.state_dict().items()})
                loss_sum += loss.detach() * len(rows)
            bar.set_postfix_str(f"loss {loss_sum.item() / len(x):.3f}", refresh=False)
            bar.update()
    module.eval()
    return kept


def _optimizer(module: torch.nn.Module, training: Training) -> torch.optim.Optimizer:
    if training.optimizer == "adam":
        return torch.optim.Adam(module.parameters(), training.lr, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        module.parameters(), training.lr, momentum=training.momentum, weight_decay=training.weight_decay
    )


def _scheduler(optimizer: torch.optim.Optimizer, training: Training, total: int) -> lr_scheduler.LRScheduler:
    if training.schedule == "one_cycle" and total:
        return lr_scheduler.OneCycleLR(optimizer, training.lr, total_steps=total + 1, cycle_momentum=False)
    drops = [total // 2, total * 3 // 4] if training.schedule == "step" else []
    return lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1)
