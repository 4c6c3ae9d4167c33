"""torchvision, also where its compiled operators do not load.

A torchvision wheel built for CUDA beside a torch built for the CPU finds no ``libtorch_cuda``; its import then
ends at the operators that it wants to describe ("operator torchvision::nms does not exist"). Data sets, transforms
and models need none of them, so declaring them is enough.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_OPERATORS = ("nms", "qnms")  # those that torchvision/_meta_registrations.py describes whether they loaded or not
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def load_torchvision() -> ModuleType:
    """Imports torchvision, and where its operators are missing declares them first."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # what the broken import left
    for name in _OPERATORS:
        torch.library.define(f"torchvision::{name}", _SCHEMA)
    return importlib.import_module("torchvision")


load_torchvision()

from torchvision import datasets, models, transforms  # noqa: E402

__all__ = ["datasets", "load_torchvision", "models", "transforms"]
