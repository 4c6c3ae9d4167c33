"""A model's named tensors: read without pickle, and checked before use."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load

Tensors = dict[str, torch.Tensor]
Form = tuple[torch.dtype, tuple[int | str, ...]]
"""A dtype and a shape; a name in a shape stands for the same size in all forms."""


def check(tensors: Tensors, forms: Mapping[str, Form], **sizes: int) -> None:
    """Checks the names, dtypes and shapes of tensors read from a file.

    Args:
        tensors: The tensors by name.
        forms: The expected form of each tensor.
        sizes: Known sizes by name.

    Raises:
        ValueError: A tensor is missing or unexpected, or has the wrong dtype or shape.
    """
    if tensors.keys() != forms.keys():
        missing, extra = sorted(forms.keys() - tensors.keys()), sorted(tensors.keys() - forms.keys())
        raise ValueError(f"missing tensors: {missing}; tensors unknown to the card's family: {extra}")
    for name, (dtype, form) in forms.items():
        tensor = tensors[name]
        if tensor.ndim == len(form):
            for size, found in zip(form, tensor.shape, strict=True):
                if isinstance(size, str):
                    sizes.setdefault(size, found)
        shape = tuple(sizes.get(size, -1) if isinstance(size, str) else size for size in form)
        if (tensor.dtype, tuple(tensor.shape)) != (dtype, shape):
            found_form = f"{tuple(tensor.shape)} {tensor.dtype}"
            raise ValueError(f"tensor {name} is {found_form}, but the card's family takes {shape} {dtype}")


def check_range(name: str, tensor: torch.Tensor, low: int | torch.Tensor, end: int) -> None:
    """Checks that indices are at least ``low`` and less than ``end``, or raises ValueError."""
    if bool(((tensor < low) | (tensor >= end)).any()):
        raise ValueError(
            f"tensor {name} holds indices {int(tensor.min())} to {int(tensor.max())}, out of range for {end}"
        )


def check_module(tensors: Tensors, module: torch.nn.Module) -> None:
    """Checks that tensors match a module's, or raises ValueError."""
    check(tensors, {name: (own.dtype, tuple(own.shape)) for name, own in module.state_dict().items()})


def fill(module: torch.nn.Module, tensors: Tensors) -> None:
    """Loads tensors into a module, or raises ValueError if they do not match its own."""
    check_module(tensors, module)
    module.load_state_dict(tensors)


def read(content: bytes) -> Tensors:
    """Reads finite tensors from the bytes of a safetensors file.

    Raises:
        ValueError: The bytes are not a safetensors file, or a tensor is not finite.
    """
    try:
        tensors: Tensors = load(content)
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from None
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"tensor {name} is not finite")
    return tensors
