"""A torch model with numpy arrays at its boundary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch.nn import functional

from wire import Array, BadInput, Card, Labels
from zoo.augment import Change
from zoo.early_stopping import EarlyStopping
from zoo.model import Model
from zoo.tensors import Tensors
from zoo.training import Loss, Training, train

if TYPE_CHECKING:
    from zoo.families.family import Architecture, Family

GRAIN = 16  # rows
PASS = {"cpu": 32, "cuda": 1024}  # rows per forward pass: fits a CPU's caches, fills a GPU

# Make CUDA's convolutions deterministic and in full float32, as on a CPU.
torch.backends.cudnn.allow_tf32 = False
torch.backends.cudnn.deterministic = True


class Answering(torch.nn.Module):
    """Maps rows to class probabilities, or to embeddings: the whole computation on the model's device."""

    def __init__(self, module: torch.nn.Module, embeds: bool = False) -> None:
        """Wraps a module from rows, in the dtype of its weights, to logits, or to embeddings."""
        super().__init__()
        self.module, self.embeds = module, embeds

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns probabilities, ``(n, k)``, or embeddings, in float32, or float64 as the weights are."""
        rows = _floats(rows)
        weights = next(self.module.parameters(), rows)  # a fitted family's module has none
        told = torch.float64 if weights.dtype == torch.float64 else torch.float32
        outputs: torch.Tensor = self.module(rows.to(weights.dtype)).to(told)
        return outputs if self.embeds else outputs.softmax(1)


class Abreast(torch.nn.Module):
    """Runs c networks side by side: maps rows to their logits, ``(n, k, c)``."""

    def __init__(self, members: Sequence[torch.nn.Module]) -> None:
        """Combines modules, each from rows to logits, ``(n, k)``."""
        super().__init__()
        self.members = torch.nn.ModuleList(members)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the logits of all networks, ``(n, k, c)``."""
        return torch.stack([member(rows) for member in self.members], dim=2)


class Network(Model):
    """A model that predicts with a torch module.

    Attributes:
        module: The torch module, from rows to logits.
        device: The module's device.
    """

    def __init__(self, module: torch.nn.Module, family: Family, card: Card, *, device: str | None = None) -> None:
        """Puts a module on a device.

        Args:
            module: The torch module, from rows to logits.
            family: The family with its fields.
            card: The model's card.
            device: The torch device; None for CUDA if available.

        Raises:
            BadInput: There is no such device.
        """
        self.family, self._card = family, card
        self.device = _device(device)
        # CUDA's float32 kernels prefer channels first; oneDNN's, and tensor cores, prefer them last.
        last = len(card.input_shape) == 3 and self.device.type == "cpu"
        self._layout = torch.channels_last if last else torch.contiguous_format
        self.module = module.to(self.device).to(memory_format=self._layout)  # type: ignore[call-overload]
        self.module.eval()

    @classmethod
    def untrained(cls, family: Architecture, card: Card, *, seed: int, device: str | None = None) -> Network:
        """Returns an untrained network; the same seed makes the same weights.

        Raises:
            BadInput: The family does not take rows of this shape, or there are fewer than two classes.
        """
        if card.classes < 2 and not card.embedding:
            raise BadInput(f"a classifier needs at least 2 classes, not {card.classes}")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            module = family.module(card.input_shape, card.classes)
        return cls(module, family, card, device=device)

    @classmethod
    def new(
        cls,
        family: Architecture,
        input_shape: tuple[int, ...],
        class_names: tuple[str, ...],
        *,
        seed: int,
        device: str | None = None,
    ) -> Network:
        """Returns an untrained network for rows from 0 to 1; see :meth:`untrained`."""
        card = Card("", tuple(input_shape), len(class_names), class_names=tuple(class_names))
        return cls.untrained(family, card, seed=seed, device=device)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return self._card.input_shape

    @property
    def classes(self) -> int:
        """Number of classes k."""
        return self._card.classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self._card.class_names

    def card(self) -> Card:
        """Returns the model's card."""
        return self._card

    def answering(self) -> Answering:
        """Returns the module from rows to answers."""
        return Answering(self.module, bool(self._card.embedding))

    def tensors(self) -> Tensors:
        """Returns the module's weights and buffers, on the CPU."""
        return {name: tensor.cpu() for name, tensor in self.module.state_dict().items()}

    def network(self) -> Network:
        """Returns this network."""
        return self

    def fit(
        self,
        x: Array,
        y: Array,
        training: Training,
        *,
        seed: int,
        label: str = "",
        augment: Change | None = None,
        held_out: tuple[Array, Array] | None = None,
        patience: int = 10,
        loss: Loss = functional.cross_entropy,
    ) -> Network:
        """Continues training from the current weights.

        Args:
            x: Rows, ``(n, *input_shape)``.
            y: Class indices, ``(n,)`` int64, or class probabilities, ``(n, k)``; for another loss, ``(n, m)``.
            training: Training parameters.
            seed: Seed of the order of the rows, and of their changes.
            label: Name of the progress bar.
            augment: Changes the rows of each step.
            held_out: Rows and labels that end the training: the weights are kept that fit these best.
            patience: Epochs without a better fit of the held-out rows, after which training ends.
            loss: Of outputs and targets; held-out rows are judged by cross-entropy.

        Returns:
            This network.

        Raises:
            BadInput: There are no rows, there are fewer steps than checkpoints, or rows to augment are no images.
        """
        if not len(x):
            raise BadInput("there are no rows to train on")
        if training.checkpoints > (steps := training.steps(len(x))):
            raise BadInput(
                f"{training.checkpoints} checkpoints need at least as many steps, not {steps}; use more epochs"
            )
        if training.held_out and held_out is None:
            order = np.random.default_rng(seed).permutation(len(x))
            kept, ends = np.split(order, [len(x) - max(1, int(training.held_out * len(x)))])
            held_out, patience = (x[ends], y[ends]), training.patience
            x, y = x[kept], y[kept]
        stopping = None if held_out is None else EarlyStopping(*self._pairs(*held_out), patience)
        self.training = training
        rows, targets = self._pairs(x, y, free=loss is not functional.cross_entropy)
        if training.noise:
            from zoo.private import train_privately  # deferred: an extra

            name = label or "train"
            train_privately(
                self.module, rows, targets, training, seed=seed, label=name, loss=loss, augment=augment
            )
            return self
        self.checkpoints = train(
            self.module,
            rows,
            targets,
            training,
            seed=seed,
            label=label,
            augment=augment,
            stopping=stopping,
            loss=loss,
        )
        return self

    def earlier(self) -> Network:
        """Returns the c checkpoints before the last as one network, whose predictions are ``(n, k, c)``.

        Raises:
            BadInput: The network has no checkpoints.
        """
        if not self.checkpoints:
            raise BadInput("the network has no checkpoints; train it with --checkpoints 11")
        members = [deepcopy(self.module) for _ in self.checkpoints]
        for member, tensors in zip(members, self.checkpoints, strict=True):
            member.load_state_dict(tensors)
        return Network(Abreast(members), self.family, self._card, device=str(self.device))

    @property
    def precision(self) -> torch.dtype:
        """The dtype of rows and answers: float64 if the weights are, else float32."""
        weights = next(self.module.parameters(), None)
        return torch.float64 if weights is not None and weights.dtype == torch.float64 else torch.float32

    @torch.inference_mode()
    def predict(self, x: Array) -> Array:
        """Returns class probabilities, or embeddings, ``(n, k)``, for rows ``x``, ``(n, *input_shape)``.

        They are in :attr:`precision`. On a CPU, a row's do not depend on the others in its batch, to the last bit.
        """
        answering = self.answering()
        parts = [answering(rows) for rows in self._passes(x)]
        return torch.cat(parts)[: len(x)].cpu().numpy()

    @torch.inference_mode()
    def logits(self, x: Array) -> Array:
        """Returns the module's output for rows ``x``, in :attr:`precision`; rows are as independent as there."""
        parts = [self.module(rows).to(self.precision) for rows in self._passes(x)]
        return torch.cat(parts)[: len(x)].cpu().numpy()

    @property
    def trees(self) -> int:
        """Number of trees; 0 if the model is none of trees."""
        return int(getattr(self.module, "trees", 0))

    @torch.inference_mode()
    def leaves(self, x: Array) -> Array:
        """Returns the leaf of each tree that rows ``x`` reach, ``(n, trees)`` int64, numbered within its tree.

        Raises:
            BadInput: The model has no trees.
        """
        if not self.trees:
            raise BadInput(f"a {type(self.family).__name__.lower()} has no trees, and so no leaves")
        parts = [self.module.leaves(rows) for rows in self._passes(x)]
        return torch.cat(parts)[: len(x)].cpu().numpy()

    def gradient(
        self, x: Array, labels: Labels, of: Literal["logit", "log_probability", "margin"] = "logit"
    ) -> Array:
        """Returns, for each row, the gradient of its label's logit, log probability or margin.

        The gradient of the probability itself has the sign of that of its logarithm, but vanishes where the
        probability rounds to 0 or 1. The margin is the label's logit minus the greatest one, so its gradient is 0
        where the label is the predicted one.

        Args:
            x: Rows, ``(n, *input_shape)``.
            labels: Class to differentiate, ``(n,)``.
            of: What to differentiate.

        Returns:
            The gradients, ``(n, *input_shape)`` float32.
        """
        chosen = functional.one_hot(torch.tensor(labels, dtype=torch.int64), self.classes).to(self.device)
        parts, at = [], 0
        for rows in self._passes(x):
            outputs = self.module(rows.requires_grad_())
            if of == "log_probability":
                outputs = outputs.log_softmax(1)
            elif of == "margin":
                outputs = outputs - outputs.max(1, keepdim=True).values
            known = chosen[at : at + len(rows)]
            parts.append(torch.autograd.grad((outputs[: len(known)] * known).sum(), rows)[0])
            at += len(rows)
        return np.ascontiguousarray(torch.cat(parts)[: len(x)].cpu().numpy())

    def _passes(self, x: Array) -> Iterator[torch.Tensor]:
        """Yields rows in passes whose size is a multiple of :data:`GRAIN`; the last one is padded with zeros.

        For other sizes, a CPU may sum in another order (seen with oneDNN, with AVX-512 even for 8; undocumented).
        """
        rows = self._rows(x)
        size = PASS[self.device.type]
        for at in range(0, max(len(rows), 1), size):
            part = rows[at : at + size]
            missing = max(-len(part) % GRAIN, GRAIN * (len(part) == 0))
            filled = torch.cat([part, part.new_zeros(missing, *self.input_shape)]) if missing else part
            yield filled.contiguous(memory_format=self._layout)

    def _pairs(self, x: Array, y: Array, free: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns rows and their labels or probabilities, on the device; other targets if ``free``."""
        if len(x) != len(y) or not (free or y.shape[1:] in ((), (self.classes,))):
            raise ValueError(f"labels must be ({len(x)},) or ({len(x)}, {self.classes}), not {y.shape}")
        targets = torch.tensor(y, dtype=torch.int64 if y.ndim == 1 else torch.float32)
        return self._rows(x), targets.to(self.device)

    def _rows(self, x: Array) -> torch.Tensor:
        if x.shape[1:] != self.input_shape:
            raise ValueError(f"rows must be (n, {', '.join(map(str, self.input_shape))}), not {x.shape}")
        if self.device.type == "cuda":
            kind = torch.uint8 if x.dtype == np.uint8 else self.precision
            rows = torch.empty(x.shape, dtype=kind, pin_memory=True)  # from here, the GPU fetches rows by itself
            rows.numpy()[...] = x
        else:
            wide = np.float64 if self.precision == torch.float64 else np.float32
            dtype = np.uint8 if x.dtype == np.uint8 else wide
            rows = torch.from_numpy(np.require(x, dtype, ["C", "W"]))  # torch warns about read-only arrays
        return _floats(rows.to(self.device, non_blocking=True)).contiguous(memory_format=self._layout)


def _floats(rows: torch.Tensor) -> torch.Tensor:
    """Returns rows as floats; bytes are scaled to [0, 1], to the same bits on every device."""
    if rows.dtype != torch.uint8:
        return rows
    # By a number, CUDA would multiply by its rounded inverse.
    return rows.float() / torch.full((), 255.0, device=rows.device)


def _device(name: str | None) -> torch.device:
    found = torch.cuda.is_available()
    try:
        device = torch.device(name or ("cuda" if found else "cpu"))
    except RuntimeError:
        raise BadInput(f"device {name!r} is neither cpu nor cuda") from None
    if device.type not in PASS:
        raise BadInput(f"device {name!r} is neither cpu nor cuda")
    if device.type == "cuda" and (not found or (device.index or 0) >= torch.cuda.device_count()):
        raise BadInput(f"device {name!r} does not exist; CUDA devices: {torch.cuda.device_count()}")
    return device
