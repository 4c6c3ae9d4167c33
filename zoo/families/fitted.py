"""What families learn that are not trained by gradients: arrays whose sizes depend on the rows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from wire import Array, BadInput
from zoo.data.pool import Pool

Learnt = dict[str, torch.Tensor]
Form = tuple[torch.dtype, tuple[int | str, ...]]


def table(pool: Pool, *, least: int = 1) -> tuple[Array, Array]:
    """Returns rows flattened, ``(n, d)``, and labels, of which every class must have some.

    Raises:
        BadInput: A class has fewer than ``least`` rows.
    """
    assert pool.y is not None
    counts = np.bincount(pool.y, minlength=len(pool.class_names))
    if counts.min() < least:
        name = pool.class_names[counts.argmin()]
        raise BadInput(f"class {name!r} has {counts.min()} rows to learn from; expected at least {least}")
    return pool.x.reshape(len(pool), -1), pool.y


def check(learnt: Learnt, forms: Mapping[str, Form], **sizes: int) -> None:
    """Checks what was read from a file before anything is computed with it.

    Args:
        learnt: The tensors by name.
        forms: The dtype and the shape of each; a size may be a name, which stands for the same number everywhere.
        sizes: The numbers that are known.

    Raises:
        ValueError: A tensor is missing or too many, or of another form.
    """
    if learnt.keys() != forms.keys():
        missing, extra = sorted(forms.keys() - learnt.keys()), sorted(learnt.keys() - forms.keys())
        raise ValueError(f"tensors missing: {missing}, tensors that the card's family lacks: {extra}")
    for name, (dtype, form) in forms.items():
        tensor = learnt[name]
        if tensor.ndim == len(form):
            for size, found in zip(form, tensor.shape, strict=True):
                if isinstance(size, str):
                    sizes.setdefault(size, found)
        shape = tuple(sizes.get(size, -1) if isinstance(size, str) else size for size in form)
        if (tensor.dtype, tuple(tensor.shape)) != (dtype, shape):
            found_form = f"{tuple(tensor.shape)} {tensor.dtype}"
            raise ValueError(f"tensor {name} is {found_form}, but the card's family takes {shape} {dtype}")


def check_range(name: str, tensor: torch.Tensor, low: int | torch.Tensor, end: int) -> None:
    """Checks that indices lie between ``low`` and ``end``, which is not among them, or raises ValueError."""
    if bool(((tensor < low) | (tensor >= end)).any()):
        raise ValueError(
            f"tensor {name} points out of {end} (it holds {int(tensor.min())} to {int(tensor.max())})"
        )
