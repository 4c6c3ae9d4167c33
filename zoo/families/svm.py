"""Support vector machines."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from wire import BadInput
from zoo.data.pool import Pool
from zoo.families.fitted import Fitted, flat
from zoo.linear import linear
from zoo.tensors import Form, Tensors, check

FOLDS = 3

_FLOAT = torch.float64


@dataclass(frozen=True)
class Svm(Fitted):
    """One-vs-rest support vector machine with a linear or an RBF kernel.

    Source: Cortes and Vapnik, "Support-Vector Networks", Machine Learning 20, 1995; solved by liblinear and libsvm
    in scikit-learn. Probabilities come from Platt scaling ("Probabilistic Outputs for Support Vector Machines and
    Comparisons to Regularized Likelihood Methods", 1999): a sigmoid is fitted to each machine's decision values on
    held-out rows, by three-fold cross-validation as in section 2.1. The machines are then trained on all rows.
    With more than two classes, the sigmoids are normalised.

    Attributes:
        kernel: The kernel; rbf is exp(-gamma |x - s|^2), with gamma = 1 / (number of features * variance of x).
        c: Penalty C on margin violations.
    """

    kernel: Literal["linear", "rbf"] = "rbf"
    c: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.c < math.inf:
            raise BadInput(f"{self}: c must be greater than 0 and finite")

    def fit(self, pool: Pool, seed: int) -> Tensors:
        """Trains the machines and their sigmoids; the seed sets the folds and the order of the rows."""
        from sklearn.calibration import CalibratedClassifierCV  # deferred: importing scikit-learn takes a second
        from sklearn.model_selection import StratifiedKFold
        from sklearn.multiclass import OneVsRestClassifier
        from sklearn.svm import SVC, LinearSVC

        x, y = flat(pool, least=FOLDS)
        gamma = 1 / (x.shape[1] * max(float(x.var()), np.finfo(np.float32).tiny))
        machine = (
            LinearSVC(C=self.c, max_iter=100_000, random_state=seed)
            if self.kernel == "linear"
            else SVC(C=self.c, gamma=gamma)
        )
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        scaled = CalibratedClassifierCV(OneVsRestClassifier(machine), cv=folds, ensemble=False).fit(x, y)
        (found,) = scaled.calibrated_classifiers_
        machines: list[Any] = found.estimator.estimators_
        sigmoids = np.array([(sigmoid.a_, sigmoid.b_) for sigmoid in found.calibrators])
        bias = np.array([float(m.intercept_[0]) for m in machines])
        if self.kernel == "linear":
            arrays = {"weight": np.concatenate([m.coef_ for m in machines])}
        else:
            support = np.unique(np.concatenate([m.support_ for m in machines]))
            weight = np.zeros((len(machines), len(support)))
            for row, m in zip(weight, machines, strict=True):
                row[np.searchsorted(support, m.support_)] = m.dual_coef_[0]
            arrays = {"weight": weight, "support": x[support], "gamma": np.array([gamma])}
        arrays |= {"bias": bias, "sigmoid": sigmoids}
        return {name: torch.from_numpy(array).to(_FLOAT) for name, array in arrays.items()}

    def module(self, tensors: Tensors, input_shape: tuple[int, ...], classes: int) -> nn.Module:
        """Returns the module from rows, ``(n, *input_shape)``, to logits, ``(n, classes)``."""
        machines, features = (1 if classes == 2 else classes), math.prod(input_shape)
        forms: dict[str, Form] = {"bias": (_FLOAT, (machines,)), "sigmoid": (_FLOAT, (machines, 2))}
        if self.kernel == "linear":
            forms |= {"weight": (_FLOAT, (machines, features))}
        else:
            forms |= {
                "weight": (_FLOAT, (machines, "support")),
                "support": (_FLOAT, ("support", features)),
                "gamma": (_FLOAT, (1,)),
            }
        check(tensors, forms)
        return _Machines(tensors)


class _Machines(nn.Module):
    weight: torch.Tensor
    bias: torch.Tensor
    sigmoid: torch.Tensor
    support: torch.Tensor
    gamma: torch.Tensor

    def __init__(self, tensors: Tensors) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps rows, ``(n, ...)``, to logits, ``(n, k)``: the logarithms of the sigmoids."""
        x = x.flatten(1).double()
        if hasattr(self, "support"):
            x = (-self.gamma * squared_distances(x, self.support)).exp()
        z = -(linear(x, self.weight, self.bias) * self.sigmoid[:, 0] + self.sigmoid[:, 1])
        return functional.pad(z, (1, 0)) if z.shape[1] == 1 else functional.logsigmoid(z)


def squared_distances(x: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Returns the squared distances, ``(n, m)``, from rows ``(n, d)`` to rows ``(m, d)``."""
    squares = (x**2).sum(1, keepdim=True) + (others**2).sum(1)
    return (squares - 2 * linear(x, others)).clamp(min=0)
