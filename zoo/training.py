"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional
from torch.optim import lr_scheduler
from tqdm import tqdm

from wire import BadInput
from zoo.augment import Change
from zoo.early_stopping import EarlyStopping
from zoo.executors import keep_memory
from zoo.tensors import Tensors

MOST_CHECKPOINTS = 50
Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Training:
    """Training parameters of a network.

    Attributes:
        epochs: Passes over the rows.
        batch: Rows per step.
        lr: Learning rate; with a schedule, its maximum.
        optimizer: Adam, or stochastic gradient descent with momentum.
        momentum: Momentum of sgd.
        weight_decay: L2 penalty on the weights.
        schedule: Learning rate over the steps: constant; one_cycle, which rises and falls once (Smith and Topin
            2019); or step, which drops to a tenth after half and again after three quarters (He et al. 2016).
        checkpoints: Number of checkpoints to keep: one after a hundredth of the steps, the others evenly spaced;
            the last is the trained network itself. 0 keeps none; the detector HODA needs 11.
        held_out: Share of the rows that do not train, but end the training: the weights are kept that fit them
            best (early stopping).
        patience: Epochs without a better fit of the held-out rows, after which training ends.
        noise: Standard deviation of the noise of DP-SGD, in units of ``clip``; 0 trains without.
        clip: Greatest norm of a row's gradient, for DP-SGD.
    """

    epochs: int = 8
    batch: int = 64
    lr: float = 4e-3
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Literal["one_cycle", "constant", "step"] = "one_cycle"
    checkpoints: int = 0
    held_out: float = 0.0
    patience: int = 10
    noise: float = 0.0
    clip: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.batch < 1 or not 0 < self.lr < math.inf:
            raise BadInput(f"{self}: epochs must be at least 0, batch at least 1 and lr greater than 0 and finite")
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < math.inf):
            raise BadInput(f"{self}: momentum must lie between 0 and 1, and weight_decay be at least 0 and finite")
        if not (0 <= self.held_out < 1 and self.patience >= 1 and 0 <= self.noise < math.inf and self.clip > 0):
            raise BadInput(
                f"{self}: held_out must lie between 0 and 1, noise be at least 0, patience and clip positive"
            )
        if self.noise and (self.held_out or self.checkpoints):
            raise BadInput(f"{self}: DP-SGD keeps no checkpoints and holds out no rows, which would tell of them")
        if self.checkpoints and not 2 <= self.checkpoints <= MOST_CHECKPOINTS:
            raise BadInput(f"{self}: checkpoints must be 0, or between 2 and {MOST_CHECKPOINTS}")

    def steps(self, rows: int) -> int:
        """Returns the number of steps for a number of rows."""
        return self.epochs * -(-rows // self.batch)

    def kept_after(self, rows: int) -> list[int]:
        """Returns the steps after which weights are kept, except the last step."""
        total, parts = self.steps(rows), self.checkpoints - 1
        return [max(-(-total // 100), -(-total * i // parts)) for i in range(parts)]


def train(
    module: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    training: Training,
    *,
    seed: int,
    label: str = "",
    augment: Change | None = None,
    stopping: EarlyStopping | None = None,
    loss: Loss = functional.cross_entropy,
) -> list[Tensors]:
    """Trains a module in place.

    Args:
        module: Maps rows to logits, ``(n, k)``.
        x: Rows, ``(n, *input_shape)``, on the module's device.
        y: Class indices, ``(n,)`` int64, or class probabilities, ``(n, k)``; or what the loss takes.
        training: Training parameters.
        seed: Seed of the order of the rows.
        label: Name of the progress bar.
        augment: Changes the rows of each step.
        stopping: Ends the training early, and restores the best weights.
        loss: Of outputs, ``(n, k)``, and their targets: the mean over rows.

    Returns:
        The weights at all checkpoints but the last, on the CPU.
    """
    keep_memory()
    order = torch.Generator().manual_seed(seed)
    total, kept_after = training.steps(len(x)), training.kept_after(len(x))
    kept, step = list[Tensors](), 0
    optimizer = optimizer_of(module, training)
    scheduler = scheduler_of(optimizer, training, total)
    module.train()
    with tqdm(total=training.epochs, desc=label or "train", unit="epoch", leave=False, dynamic_ncols=True) as bar:
        for _ in range(training.epochs):
            loss_sum = torch.zeros((), device=x.device)
            for rows in torch.split(torch.randperm(len(x), generator=order).to(x.device), training.batch):
                inputs = x[rows] if augment is None else augment(x[rows], order)
                mean = loss(module(inputs), y[rows])
                optimizer.zero_grad(set_to_none=True)
                mean.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                scheduler.step()
                step += 1
                if step in kept_after:
                    kept.append({name: tensor.cpu().clone() for name, tensor in module.state_dict().items()})
                loss_sum += mean.detach() * len(rows)
            bar.set_postfix_str(f"loss {loss_sum.item() / len(x):.3f}", refresh=False)
            bar.update()
            if stopping is not None and stopping.after_epoch(module):
                break
    if stopping is not None:
        stopping.restore(module)
    module.eval()
    return kept


def optimizer_of(module: torch.nn.Module, training: Training) -> torch.optim.Optimizer:
    """Returns the optimizer of a module's weights."""
    if training.optimizer == "adam":
        return torch.optim.Adam(module.parameters(), training.lr, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        module.parameters(), training.lr, momentum=training.momentum, weight_decay=training.weight_decay
    )


def scheduler_of(optimizer: torch.optim.Optimizer, training: Training, total: int) -> lr_scheduler.LRScheduler:
    """Returns the schedule of the learning rate over a number of steps."""
    if training.schedule == "one_cycle" and total:
        return lr_scheduler.OneCycleLR(optimizer, training.lr, total_steps=total + 1, cycle_momentum=False)
    drops = [total // 2, total * 3 // 4] if training.schedule == "step" else []
    return lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1)
