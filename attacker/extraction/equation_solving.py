"""Equation solving.

Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 4.1 (logistic regression and multilayer perceptrons).
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from attacker.asking import needs_probs, some
from attacker.extraction.lbfgs import minimise
from attacker.extraction.targets import targets
from attacker.surrogate import class_names, new_seed, numbers, own_model
from wire import Array, BadInput, Oracle
from wire.fits import uniform
from zoo.data.pool import Pool
from zoo.families.family import Architecture
from zoo.families.logistic import Softmax
from zoo.families.mlp import Mlp
from zoo.families.svm import Svm
from zoo.linear import Linear
from zoo.network import Network

EXPLAINED = 1e-4  # largest error of a probability that rounding to float32 leaves to a closed form


@dataclass(frozen=True)
class EquationSolving:
    """Equation solving: finds the weights of a victim of known form from its answers (USENIX Security 2016).

    Queries ``ratio`` rows for each unknown parameter. A softmax regression of k classes and d features has
    ``k (d + 1)`` unknowns, and each answer gives ``k - 1`` linear equations, ``log p_i / p_0 = (w_i - w_0) x +
    (b_i - b_0)``, so that ``d + 1`` rows, a ratio of 1/k, determine it. A binary logistic regression is a softmax
    of two classes. Where the answers are rounded, noisy or incomplete, and for one-vs-rest models and perceptrons,
    the parameters are those of the least cross-entropy, by L-BFGS in float64; the paper uses BFGS for regressions
    and gradient descent for perceptrons. One-vs-rest models have a sigmoid for each class, and normalise them: so
    do logistic regressions of that kind, and linear support vector machines with Platt's probabilities.

    The paper's rows are uniform over the features' range. A perceptron is then learnt far from its data, so that
    rows of the pool may be queried instead.

    Attributes:
        form: Form of the victim: softmax, one_vs_rest, or mlp with ReLU.
        hidden: Widths of the hidden layers, if the form is mlp.
        ratio: Rows per unknown parameter, the paper's alpha.
        rows: What is queried: uniformly random rows, or rows of the pool.
        steps: Most iterations of L-BFGS.
        starts: Random starts of L-BFGS for an mlp; the one with the least loss counts.
    """

    form: Literal["softmax", "one_vs_rest", "mlp"] = "softmax"
    hidden: tuple[int, ...] = (20,)
    ratio: float = 1.0
    rows: Literal["uniform", "pool"] = "uniform"
    steps: int = 1000
    starts: int = 3

    def __post_init__(self) -> None:
        if not 0 < self.ratio < math.inf or self.steps < 1 or self.starts < 1:
            raise BadInput(f"{self}: ratio must be greater than 0 and finite, steps and starts at least 1")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Queries rows and solves for the victim's parameters; see :class:`Extraction`.

        Raises:
            NotApplicable: The model discloses labels only.
            BadInput: The rows are uniform, and the card has no finite bounds.
        """
        needs_probs(oracle.card)
        binary = len(class_names(oracle.card)) == 2  # one sigmoid, which is a softmax of two
        form = "softmax" if binary and self.form == "one_vs_rest" else self.form
        family = {"softmax": Softmax(), "one_vs_rest": _OneVsRest(), "mlp": Mlp(self.hidden)}[form]
        starts = range(self.starts if form == "mlp" else 1)
        networks = [own_model(oracle.card, family, seed=new_seed(rng)) for _ in starts]
        n = math.ceil(self.ratio * sum(weights.numel() for weights in networks[0].module.parameters()))
        own = numbers(pool.x)
        x = uniform(oracle.card, n, rng) if self.rows == "uniform" else own[rng.permutation(len(own))[:n]]
        answer = some(oracle, x)
        x, p = x[: len(answer)], answer.probs
        if form == "softmax" and p is not None and oracle.card.digits is None and (p > 0).all():
            solved = _solved(networks[0], x, p)
            if np.abs(solved.predict(x) - p).max() < EXPLAINED:
                return solved
        y = targets(answer, networks[0].classes)
        losses = [minimise(network, x, y, functional.cross_entropy, self.steps) for network in networks]
        found = networks[losses.index(min(losses))]
        return _machines(found) if form == "one_vs_rest" else found


def _solved(network: Network, x: Array, p: Array) -> Network:
    """Returns the softmax regression that solves the linear equations, by least squares."""
    rows = np.column_stack([x.reshape(len(x), -1), np.ones(len(x))]).astype(np.float64)
    logs = np.log(p.astype(np.float64))
    solution = np.linalg.lstsq(rows, logs - logs.mean(axis=1, keepdims=True), rcond=None)[0].T
    solved = deepcopy(network)
    linear = solved.module[-1]
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(solution[:, :-1]))
        linear.bias.copy_(torch.from_numpy(solution[:, -1]))
    return solved


@dataclass(frozen=True)
class _OneVsRest(Architecture):
    """A linear map and a sigmoid for each class; the softmax of their logarithms normalises them."""

    def module(self, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns a module whose sigmoids are small: it is nearly a softmax, which has no local minima."""
        linear = Linear(math.prod(input_shape), classes)
        nn.init.zeros_(linear.weight)
        nn.init.constant_(linear.bias, -3.0)
        return nn.Sequential(nn.Flatten(), linear, nn.LogSigmoid())


def _machines(network: Network) -> Network:
    """Returns a one-vs-rest network as linear machines whose sigmoids are the plain ones."""
    linear = network.module[1]
    sigmoid = torch.tensor([[-1.0, 0.0]] * network.classes)
    tensors = {"weight": linear.weight, "bias": linear.bias, "sigmoid": sigmoid}
    plain = {name: tensor.detach().double().cpu() for name, tensor in tensors.items()}
    return Svm("linear").restore(network.card(), plain, device=str(network.device))
