"""A neural network with numpy at its boundary."""

from __future__ import annotations

import numpy as np
import torch

from wire import Array, BadInput, Labels
from zoo.families import Family
from zoo.training import Training, train

CHUNK_CPU, CHUNK_CUDA = 64, 4096  # rows in one pass: what stays in a CPU's caches, and what fills a GPU


class Network:
    """A model of some family; a :class:`~zoo.classifier.Differentiable`.

    Attributes:
        module: The torch module, from rows to logits.
        family: The family with its fields.
        input_shape: Shape of one row.
        class_names: Names of the classes.
        low: Least value that a feature takes, None if unbounded.
        high: Greatest value that a feature takes, None if unbounded.
        training: How it was last trained; None if it was not.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        family: Family,
        input_shape: tuple[int, ...],
        class_names: tuple[str, ...],
        *,
        low: float | None = 0.0,
        high: float | None = 1.0,
        training: Training | None = None,
        device: str | None = None,
    ) -> None:
        """Puts a module on a device; None chooses CUDA where there is one."""
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._layout = torch.channels_last if len(input_shape) == 3 else torch.contiguous_format
        self.module = module.to(self.device)
        if len(input_shape) == 3:
            self.module = self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.module.eval()
        self.family, self.input_shape, self.class_names = family, tuple(input_shape), tuple(class_names)
        self.low, self.high, self.training = low, high, training

    @classmethod
    def new(
        cls,
        family: Family,
        input_shape: tuple[int, ...],
        class_names: tuple[str, ...],
        *,
        seed: int,
        device: str | None = None,
    ) -> Network:
        """Returns an untrained network; the same seed makes the same weights.

        Raises:
            BadInput: The family does not take rows of this shape, or there are fewer than two classes.
        """
        if len(class_names) < 2:
            raise BadInput(f"a classifier needs at least 2 classes, not {len(class_names)}")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = family.module(tuple(input_shape), len(class_names))
        return cls(module, family, input_shape, class_names, device=device)

    @property
    def classes(self) -> int:
        """Number of classes k."""
        return len(self.class_names)

    def fit(self, x: Array, y: Array, training: Training, *, seed: int, label: str = "") -> Network:
        """Trains from the present weights on.

        Args:
            x: Rows, ``(n, *input_shape)``.
            y: Class indices, ``(n,)`` int64, or probabilities of the classes, ``(n, k)``.
            training: How to train.
            seed: Seeds the order of the rows.
            label: What the progress bar calls it.

        Returns:
            This network.
        """
        if len(x) != len(y) or y.shape[1:] not in ((), (self.classes,)):
            raise ValueError(f"labels must be ({len(x)},) or ({len(x)}, {self.classes}), not {y.shape}")
        targets = torch.as_tensor(y, dtype=torch.int64 if y.ndim == 1 else torch.float32)
        train(self.module, self._rows(x), targets.to(self.device), training, seed=seed, label=label)
        self.training = training
        return self

    @torch.inference_mode()
    def predict(self, x: Array) -> Array:
        """Returns class probabilities, ``(n, k)`` float32, of rows ``x``, ``(n, *input_shape)``."""
        chunks = torch.split(self._rows(x), self._chunk)
        return torch.cat([self.module(chunk).softmax(1) for chunk in chunks]).cpu().numpy()

    def gradient(self, x: Array, labels: Labels) -> Array:
        """Returns, for each row, the gradient of its label's probability.

        Args:
            x: Rows, ``(n, *input_shape)``.
            labels: Class of which to differentiate the probability, ``(n,)``.

        Returns:
            The gradients, ``(n, *input_shape)`` float32.
        """
        parts = []
        chosen = torch.as_tensor(labels, dtype=torch.int64).to(self.device)
        for rows, label in zip(
            torch.split(self._rows(x), self._chunk), torch.split(chosen, self._chunk), strict=True
        ):
            rows = rows.detach().requires_grad_()
            told = self.module(rows).softmax(1).gather(1, label[:, None]).sum()
            parts.append(torch.autograd.grad(told, rows)[0])
        return torch.cat(parts).cpu().contiguous().numpy()

    @property
    def _chunk(self) -> int:
        return CHUNK_CUDA if self.device.type == "cuda" else CHUNK_CPU

    def _rows(self, x: Array) -> torch.Tensor:
        if x.shape[1:] != self.input_shape:
            raise ValueError(f"rows must be (n, {', '.join(map(str, self.input_shape))}), not {x.shape}")
        rows = torch.from_numpy(np.require(x, np.float32, "W"))  # torch warns of arrays that it must not write to
        return rows.to(self.device).contiguous(memory_format=self._layout)
