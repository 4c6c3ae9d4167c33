"""DP-SGD: gradients are clipped for each row, and noise is added to their sum.

Source: Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang, "Deep Learning with Differential Privacy", CCS
2016, algorithm 1; by the library opacus, which samples each row of a step with the same probability, as its
accountant assumes. Needs the extra ``private``.

Gradients of single rows are not kept: opacus computes their norms, and then the sum of the clipped ones in a
second backward pass (ghost clipping).
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from wire import BadInput
from zoo.augment import Change
from zoo.linear import Linear
from zoo.training import Loss, Training, optimizer_of, scheduler_of

if TYPE_CHECKING:
    from opacus.grad_sample import GradSampleModuleFastGradientClipping


def train_privately(
    module: torch.nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    training: Training,
    *,
    seed: int,
    label: str,
    loss: Loss,
    augment: Change | None = None,
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
        augment: Changes the rows of each step, each by itself alone, or the guarantee would not hold.

    Raises:
        BadInput: The extra is not installed, or the module cannot be trained so (batch normalisation).
    """
    opacus = _opacus()
    module.train()
    faults = opacus.validators.ModuleValidator.validate(module)
    if faults:
        raise BadInput(f"this family cannot be trained privately ({faults[0]}); choose mlp, softmax or logistic")
    twice = opacus.utils.fast_gradient_clipping_utils.DPTensorFastGradientClipping
    order = torch.Generator().manual_seed(seed)
    steps, share = training.steps(len(x)), min(training.batch / len(x), 1.0)
    sampled: GradSampleModuleFastGradientClipping = opacus.grad_sample.GradSampleModuleFastGradientClipping(
        module, max_grad_norm=training.clip, use_ghost_clipping=True
    )
    optimizer = opacus.optimizers.DPOptimizerFastGradientClipping(
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
                inputs = x[rows]
                if augment is not None:
                    sampled.disable_hooks()  # of gradients that train nothing
                    inputs = augment(inputs, order)
                    sampled.enable_hooks()
                each = torch.vmap(loss)(sampled(inputs)[:, None], y[rows][:, None])  # (rows,)
                twice(sampled, optimizer, each).backward()
                optimizer.step()
            scheduler.step()
            bar.update()
    sampled.to_standard_module()
    module.eval()


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
        import opacus.utils.fast_gradient_clipping_utils
        import opacus.validators
        from opacus.grad_sample import linear, utils
    except ImportError:
        raise BadInput(
            "DP-SGD needs opacus; install the extra `private`: pip install 'mlaas-range[private]'"
        ) from None
    utils.register_grad_sampler(Linear)(linear.compute_linear_grad_sample)  # opacus looks for the very class
    utils.register_norm_sampler(Linear)(linear.compute_linear_norm_sample)
    return opacus
