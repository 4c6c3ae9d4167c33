"""DP-SGD: gradients are clipped for each row, and noise is added to their sum.

Source: Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang, "Deep Learning with Differential Privacy", CCS
2016, algorithm 1; by the library opacus, which samples each row of a step with the same probability, as its
accountant assumes. Needs the extra ``private``.

Where all weights are those of linear layers, no row's gradient is kept: its norm, and the sum of the clipped ones,
follow from a layer's inputs and from the gradient at its outputs (Goodfellow, "Efficient Per-Example Gradient
Computations", arXiv 1510.01799). It is the same sum, some ten times as fast.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from wire import BadInput
from zoo.training import Loss, Training, optimizer_of, scheduler_of

if TYPE_CHECKING:
    from opacus import GradSampleModule


def train_privately(
    module: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    training: Training,
    *,
    seed: int,
    label: str,
    loss: Loss,
) -> None:
    """Trains a module in place by DP-SGD.

    Args:
        module: Maps rows to logits, ``(n, k)``.
        x: Rows, ``(n, *input_shape)``, on the module's device.
        y: Class indices, ``(n,)`` int64, or class probabilities, ``(n, k)``.
        training: Training parameters: ``noise`` and ``clip`` among them.
        seed: Seed of the samples and of the noise. Anyone who knows it can compute the noise, so the guarantee
            holds only if it stays secret.
        label: Name of the progress bar.
        loss: Of outputs and targets: the mean over rows.

    Raises:
        BadInput: The extra is not installed, or the module cannot be trained so (batch normalisation).
    """
    opacus = _opacus()
    module.train()
    faults = opacus.validators.ModuleValidator.validate(module)
    if faults:
        raise BadInput(f"this family cannot be trained privately ({faults[0]}); choose mlp, softmax or logistic")
    order = torch.Generator().manual_seed(seed)
    steps, share = training.steps(len(x)), min(training.batch / len(x), 1.0)
    linear = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)]
    by_layers = sum(len([*layer.parameters()]) for layer in linear) == len([*module.parameters()])
    sampled: GradSampleModule | None = None if by_layers else opacus.GradSampleModule(module)
    optimizers = opacus.optimizers
    optimizer = (optimizers.DPOptimizerFastGradientClipping if by_layers else optimizers.DPOptimizer)(
        optimizer_of(module, training),
        noise_multiplier=training.noise,
        max_grad_norm=training.clip,
        expected_batch_size=training.batch,
        generator=torch.Generator(x.device).manual_seed(seed + 1),
    )
    scheduler = scheduler_of(optimizer.original_optimizer, training, steps)
    with warnings.catch_warnings(), tqdm(total=steps, desc=label, unit="step", leave=False) as bar:
        warnings.filterwarnings("ignore", message="Full backward hook")
        for _ in range(steps):
            rows = torch.nonzero(torch.rand(len(x), generator=order) < share)[:, 0].to(x.device)
            optimizer.zero_grad(set_to_none=True)
            if len(rows):
                if sampled is None:
                    add_clipped(module, linear, x[rows], y[rows], loss, training.clip)
                else:
                    loss(sampled(x[rows]), y[rows]).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            scheduler.step()
            bar.update()
    if sampled is not None:
        sampled.to_standard_module()
    for weights in module.parameters():
        weights.grad = None
    module.eval()


def add_clipped(
    module: torch.nn.Module,
    linear: Sequence[torch.nn.Linear],
    x: torch.Tensor,
    y: torch.Tensor,
    loss: Loss,
    clip: float,
) -> None:
    """Sets the gradients of linear layers to the sum over rows of the clipped gradients of a row.

    Args:
        module: The module, whose weights are all in these layers; no layer is used twice.
        linear: Its linear layers; their inputs are ``(n, units)``.
        x: Rows.
        y: Their targets.
        loss: Of outputs and targets: the mean over rows.
        clip: Greatest norm of a row's gradient.
    """
    inputs, outputs = dict[torch.nn.Module, torch.Tensor](), dict[torch.nn.Module, torch.Tensor]()

    def keep(layer: torch.nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
        inputs[layer], outputs[layer] = given[0].detach(), made

    hooks = [layer.register_forward_hook(keep) for layer in linear]
    value = len(x) * loss(module(x), y)  # the sum over rows, so that a row's slope is its own
    for hook in hooks:
        hook.remove()
    slopes = torch.autograd.grad(value, [outputs[layer] for layer in linear])
    squares = sum(
        slope.square().sum(1) * (inputs[layer].square().sum(1) + (layer.bias is not None))
        for layer, slope in zip(linear, slopes, strict=True)
    )
    assert isinstance(squares, torch.Tensor)
    weights = (clip / (squares.sqrt() + 1e-6)).clamp(max=1)[:, None]
    for layer, slope in zip(linear, slopes, strict=True):
        layer.weight.grad = (weights * slope).T @ inputs[layer]
        if layer.bias is not None:
            layer.bias.grad = (weights * slope).sum(0)


def epsilon(training: Training, rows: int, delta: float) -> float:
    """Returns epsilon of a model's (epsilon, delta)-differential privacy; infinite without noise.

    Args:
        training: Training parameters.
        rows: Number of rows that it trained on.
        delta: Probability with which the bound may fail; less than one in the number of rows.
    """
    if not training.noise:
        return math.inf
    accountant: Any = _opacus().accountants.PRVAccountant()
    accountant.history = [(training.noise, min(training.batch / rows, 1.0), training.steps(rows))]
    return float(accountant.get_epsilon(delta))


def _opacus() -> Any:
    try:
        import opacus
        import opacus.validators
    except ImportError:
        raise BadInput(
            "DP-SGD needs opacus; install the extra `private`: pip install 'mlaas-range[private]'"
        ) from None
    return opacus
