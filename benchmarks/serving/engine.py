"""The networks in the engines of raw forward passes, with the same weights as the servers'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from benchmarks.serving import session
from benchmarks.serving.session import CLASSES, Predict
from wire import Array
from zoo.families.cnn import Cnn
from zoo.families.resnet import Resnet
from zoo.linear import Linear

FAMILIES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "cnn": (Cnn(), session.SHAPE),
    "resnet": (Resnet(n=3, width=64), (3, 32, 32)),
}
"""The two networks, each with the shape of one row."""

ENGINES = ("torch eager", "torch", "onnxruntime")
"""``torch`` keeps rows and weights channels last, as our server does; ``torch eager`` leaves them as they are."""


def module(home: Path, family: str) -> nn.Module:
    """Returns a network with its softmax, on one thread."""
    torch.set_num_threads(1)
    built, shape = FAMILIES[family]
    network = built.module(shape, CLASSES)
    network.load_state_dict(load_file(home / "weights.safetensors"))
    for layer in network.modules():
        if isinstance(layer, Linear):
            # The zoo's own class fixes the last bit, at a cost that raw forward passes do not bear.
            layer.__class__ = nn.Linear  # type: ignore[assignment]
    return nn.Sequential(network, nn.Softmax(1)).eval()


def load(home: Path, family: str, engine: str) -> Predict:
    """Loads a network from its folder: rows ``(n, *shape)`` in, probabilities ``(n, k)`` out, on one thread."""
    if engine == "onnxruntime":
        return session.load(home)
    layout = torch.contiguous_format if engine == "torch eager" else torch.channels_last
    network = module(home, family).to(memory_format=layout)  # type: ignore[call-overload]

    @torch.inference_mode()
    def predict(x: Array) -> Array:
        rows = torch.from_numpy(np.require(x, requirements="W")).contiguous(memory_format=layout)
        probs: Array = network(rows).numpy()
        return probs

    return predict
