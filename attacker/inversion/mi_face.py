"""MI-Face: descends on 1 - p of a class, and so draws what the victim takes for it.

Source: Fredrikson, Jha, Ristenpart, "Model Inversion Attacks that Exploit Confidence Information and Basic
Countermeasures", CCS 2015, section 5 (algorithm 1). The authors have the gradient; here it is estimated from
confidences (section 5.2 does so by finite differences), or taken from a surrogate that was stolen before. Both are
gradients of log p, which has the direction of that of p, but does not vanish where p is small.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from scipy.fft import idctn
from scipy.ndimage import gaussian_filter

from attacker.asking import needs_probs, some
from attacker.extraction.targets import targets
from attacker.surrogate import class_names
from wire import Array, BadInput, Oracle
from wire.fits import bounds
from zoo import folder
from zoo.network import Network

LEAST = 1e-7  # of a probability whose logarithm is taken


@dataclass(frozen=True)
class MiFace:
    """MI-Face: reconstructs the image of a class from the victim's confidences (CCS 2015).

    The row starts at 0 and goes down the gradient of the cost 1 - p. It ends where the cost has not fallen for
    some steps, or is small enough; of all rows the one of least cost is returned.

    Without a surrogate, the gradient is estimated from pairs of rows on either side, along random directions;
    those of images are smooth: sums of the lowest waves. With a surrogate, it is the surrogate's, and each step
    asks the victim about one row.

    Attributes:
        steps: Steps alpha, at most.
        stall: Steps beta without progress, after which it ends.
        enough: Cost gamma at which it ends.
        rate: Length of a step, in root mean squares of a feature, in units of its range.
        directions: Random directions of an estimate, of two rows each.
        distance: Root mean square of a direction, in units of a feature's range.
        waves: Waves along each side of an image, of which directions are made.
        smoothing: Deviation, in pixels, of the filter that an image passes at each step (the paper's Process).
        surrogate: Folder of a stolen surrogate that gives the gradient; default: none.
    """

    steps: int = 60
    stall: int = 10
    enough: float = 0.01
    rate: float = 0.05
    directions: int = 25
    distance: float = 0.05
    waves: int = 10
    smoothing: float = 0.4
    surrogate: Path | None = None

    def __post_init__(self) -> None:
        if min(self.steps, self.stall, self.directions, self.waves) < 1 or self.smoothing < 0:
            raise BadInput(f"{self}: numbers must be at least 1, and smoothing at least 0")
        if not 0 <= self.enough < 1 or not self.rate > 0 or not self.distance > 0:
            raise BadInput(f"{self}: enough must lie between 0 and 1, and rate and distance be greater than 0")

    def invert(self, oracle: Oracle, label: int, rng: np.random.Generator) -> Array:
        """Returns the row of least cost; see :class:`Inversion`."""
        needs_probs(oracle.card)
        low, high = bounds(oracle.card)
        x = np.full(oracle.card.input_shape, np.clip(0.0, low, high), np.float32)
        best, costs = x, [1 - float(_asked(oracle, x[None], label)[0])]
        for _ in range(self.steps):
            if oracle.ended is not None or costs[-1] <= self.enough:
                break
            if len(costs) > self.stall and min(costs[-self.stall :]) >= min(costs[: -self.stall]):
                break
            gradient = self._gradient(oracle, x, label, (low, high), rng)
            if gradient is None:
                break
            step = gradient / max(float(np.sqrt(np.mean(gradient**2))), 1e-12)
            x = self._processed(x + self.rate * (high - low) * step, low, high)
            told = _asked(oracle, x[None], label)
            if not len(told):
                break
            costs.append(1 - float(told[0]))
            if costs[-1] <= min(costs):
                best = x
        return best

    def _gradient(
        self, oracle: Oracle, x: Array, label: int, limits: tuple[float, float], rng: np.random.Generator
    ) -> Array | None:
        """Returns the gradient of log p, ``input_shape``, but for its length; None if the victim ended it."""
        if self.surrogate is not None:
            return np.asarray(self._model.gradient(x[None], np.array([label]), of="log_probability")[0])
        moved = self.distance * (limits[1] - limits[0]) * self._random(oracle.card.input_shape, rng)
        ahead, behind = np.clip(x + moved, *limits), np.clip(x - moved, *limits)  # a server takes no other rows
        told = np.log(np.maximum(_asked(oracle, np.concatenate([ahead, behind]), label), LEAST))
        if len(told) < 2 * len(moved):
            return None
        return np.asarray(np.tensordot(told[: len(moved)] - told[len(moved) :], ahead - behind, axes=1))

    def _random(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Returns directions of root mean square 1, ``(directions, *shape)``, smooth ones for images."""
        along = rng.normal(size=(self.directions, *shape))
        if len(shape) == 3:
            along[..., self.waves :, :] = along[..., self.waves :] = 0
            along = idctn(along, axes=(-2, -1), norm="ortho")
        size = np.sqrt(np.mean(along**2, axis=tuple(range(1, along.ndim)), keepdims=True))
        return np.asarray((along / size).astype(np.float32))

    def _processed(self, x: Array, low: float, high: float) -> Array:
        """Returns a row that the victim takes; an image passes the filter."""
        if self.smoothing and x.ndim == 3:
            x = gaussian_filter(x, (0, self.smoothing, self.smoothing), mode="nearest")
        return np.clip(x, low, high).astype(np.float32)

    @cached_property
    def _model(self) -> Network:
        assert self.surrogate is not None
        return folder.load(self.surrogate).network()


def _asked(oracle: Oracle, x: Array, label: int) -> Array:
    """Returns the victim's probability of a class, ``(m,)``, for the first ``m`` rows that it answered."""
    answer = oracle.collect(x.astype(np.float32)) if oracle.spent else some(oracle, x.astype(np.float32))
    if not len(answer):
        return np.empty(0)
    return np.asarray(targets(answer, len(class_names(oracle.card)))[:, label].astype(np.float64))
