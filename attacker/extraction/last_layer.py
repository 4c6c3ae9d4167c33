"""The last hidden layer of a ReLU network, and its output, by linear regression; its units' signs are unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from attacker.surrogate import own_model
from wire import Array, Card
from zoo.families.mlp import Mlp
from zoo.network import Network

UNIQUE = 1e-7  # least relative size of a singular value that is no rounding error
NEGLIGIBLE = 1e-3  # relative size of a linear map that is left out


class Solved(NamedTuple):
    """A hidden layer with the right signs, and what follows it.

    Attributes:
        weight: Incoming weights of the hidden units, ``(h, d)``.
        bias: Their biases, ``(h,)``.
        out: Their outgoing weights, ``(h, k)``.
        constant: Bias of the outputs, ``(k,)``.
        error: Greatest error of a logit that the regression leaves.
    """

    weight: Array
    bias: Array
    out: Array
    constant: Array
    error: float

    @property
    def layers(self) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        """The hidden layer and the output, weights and biases each."""
        return (self.weight, self.bias), (self.out.T, self.constant)

    def logits(self, x: Array) -> Array:
        """Returns the logits of rows, ``(n, k)``."""
        return np.asarray(np.maximum(x @ self.weight.T + self.bias, 0) @ self.out + self.constant)

    def difference(self, x: Array, told: Array) -> Array:
        """Returns the greatest difference from the logits of each row, ``(n,)``."""
        logits = self.logits(x)
        far: Array = np.abs(logits - logits.mean(axis=1, keepdims=True) - told).max(axis=1)
        return far


def solve(weight: Array, bias: Array, x: Array, told: Array) -> Solved:
    """Finds the signs and outgoing weights of hidden units, from logits of rows (Jagielski et al., section 6.4).

    A unit that is never 0 on these rows only adds a linear map; the result has that map as units that are always
    active.

    Args:
        weight: Incoming weights, up to their signs, ``(h, d)``.
        bias: Biases, ``(h,)``.
        x: Rows, or activations of the layer before, ``(n, d)``.
        told: Their logits, ``(n, k)``, each row of mean 0.
    """
    design = _design(weight, bias, x)
    solution = np.linalg.lstsq(design, told, rcond=1e-9)[0]
    return _arranged(weight, bias, x, solution, float(np.abs(design @ solution - told).max(initial=0)))


def solve_boundary(weight: Array, bias: Array, x: Array) -> Solved:
    """Does the same from points on the boundary of two classes, where their logits are equal, ``(n, d)``.

    The logits have an arbitrary factor, perhaps a negative one. The error is the least singular value of the
    equations, as a share of the next one: 1 if the points do not tell the solution.
    """
    design = _design(weight, bias, x)
    if len(design) <= design.shape[1]:
        return _arranged(weight, bias, x, np.zeros((design.shape[1], 2)), 1.0)
    _, sizes, right = np.linalg.svd(design / np.linalg.norm(design, axis=0), full_matrices=False)
    solution = right[-1] / np.linalg.norm(design, axis=0)
    solution /= np.abs(solution).max()
    unique = sizes[-2] > UNIQUE * sizes[0]
    error = float(sizes[-1] / sizes[-2]) if unique else 1.0
    return _arranged(weight, bias, x, solution[:, None] * np.array([[-0.5, 0.5]]), error)


def _design(weight: Array, bias: Array, x: Array) -> Array:
    return np.column_stack([np.maximum(x @ weight.T + bias, 0), x, np.ones(len(x))])


def _arranged(weight: Array, bias: Array, x: Array, solution: Array, error: float) -> Solved:
    """Returns the layer of coefficients of active units, of features and of 1, ``(h + d + 1, k)``."""
    out, linear, constant = np.split(solution, [len(bias), len(bias) + x.shape[1]])
    constant = constant[0]
    # relu(-z) = relu(z) - z: a unit of the wrong sign leaves -out * weight in the linear part.
    if len(bias):
        gram = (out @ out.T) * (weight @ weight.T)
        turned = np.linalg.lstsq(gram, -np.einsum("hd,dk,hk->h", weight, linear, out), rcond=None)[0] > 0.5
        linear = linear + weight[turned].T @ out[turned]
        constant = constant + bias[turned] @ out[turned]
        weight, bias = np.where(turned[:, None], -weight, weight), np.where(turned, -bias, bias)
    left, sizes, right = np.linalg.svd(linear, full_matrices=False)
    kept = sizes > NEGLIGIBLE * max(float(np.abs(out).max(initial=0)), float(sizes.max(initial=0)))
    always = (left * np.sqrt(sizes))[:, kept].T
    shift = 1 + float(np.abs(x).max(initial=1.0)) * np.abs(always).sum(axis=1)
    onward = (np.sqrt(sizes)[:, None] * right)[kept]
    return Solved(
        np.vstack([weight, always]),
        np.append(bias, shift),
        np.vstack([out, onward]),
        constant - shift @ onward,
        error,
    )


def network_of(card: Card, layers: Sequence[tuple[Array, Array]], *, seed: int) -> Network:
    """Returns the perceptron in float64 with these layers, weights ``(h, d)`` and biases ``(h,)`` each.

    Args:
        card: The victim's card.
        layers: The hidden layers, and the output; a hidden layer without units becomes one unit of no effect.
        seed: Seed of weights that are then overwritten.
    """
    network = own_model(card, Mlp(tuple(max(len(bias), 1) for _, bias in layers[:-1])), seed=seed)
    network.module.double()
    flat = [torch.from_numpy(np.ascontiguousarray(part, np.float64)) for layer in layers for part in layer]
    for parameter, value in zip(network.module.parameters(), flat, strict=True):
        known = value if value.numel() else torch.zeros_like(parameter)
        parameter.data = known.to(network.device)
    return network
