"""Imports torchvision even if its compiled operators do not load.

With a torch built for the CPU, a torchvision wheel built for CUDA finds no ``libtorch_cuda``, and its import fails
when it registers its operators ("operator torchvision::nms does not exist"). Data sets, transforms and models need
none of them, so it is enough to declare them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_OPERATORS = ("nms", "qnms")  # the ones that torchvision/_meta_registrations.py always registers
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def load_torchvision() -> ModuleType:
    """Imports torchvision, and declares its operators first if they are missing."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # left by the failed import
    for name in _OPERATORS:
        torch.library.define(f"torchvision::{name}", _SCHEMA)
    return importlib.import_module("torchvision")


load_torchvision()

from torchvision import datasets, models, transforms  # noqa: E402

__all__ = ["datasets", "load_torchvision", "models", "transforms"]
