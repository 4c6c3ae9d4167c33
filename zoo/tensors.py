"""A model's named tensors: read without pickle, and checked before use."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch.overrides import TorchFunctionMode

Tensors = dict[str, torch.Tensor]
Form = tuple[torch.dtype, tuple[int | str, ...]]
"""A dtype and a shape; a name in a shape stands for the same size in all forms."""


_DTYPES = (torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool)


class Unallocated(TorchFunctionMode):
    """Gives the modules that are made inside it weights of a dtype and a shape, but without memory.

    They are on torch's meta device. Making them on it directly fails where a module computes with small tensors
    (torchvision's regnets), and loads torch's compiler to run the initialisation.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs a function of torch, without memory if it makes a weight, and not at all if it fills one."""
        if func in (torch.empty, torch.zeros, torch.ones):
            return func(*args, **{**(kwargs or {}), "device": "meta"})
        first, name = (args[0] if args else None), func.__name__
        in_place = name.endswith("_") and not name.endswith("__")
        if in_place and isinstance(first, torch.Tensor) and first.is_meta:
            return first
        return func(*args, **(kwargs or {}))


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
        missing, extra = _few(forms.keys() - tensors.keys()), _few(tensors.keys() - forms.keys())
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


def _few(names: Collection[str]) -> str:
    return f"{sorted(names)[:5]}" + f" and {len(names) - 5} more" * (len(names) > 5)


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
    except (SafetensorError, KeyError) as error:  # a dtype that torch lacks is a KeyError
        raise ValueError(f"not a safetensors file: {error}") from None
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            raise ValueError(f"tensor {name} is {tensor.dtype}; expected one of {', '.join(map(str, _DTYPES))}")
        if not tensor.isfinite().all():
            raise ValueError(f"tensor {name} is not finite")
    return tensors
