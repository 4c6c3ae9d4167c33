"""The same weights in the same engines for every server, ours and the rivals'.

A rival's environment holds its own server, torch, ONNX Runtime and safetensors; it finds this file, and the two
modules of the zoo that it builds, by ``PYTHONPATH``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from wire import Array
from zoo.families.cnn import Cnn
from zoo.families.resnet import Resnet
from zoo.linear import Linear

FAMILIES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "cnn": (Cnn(), (1, 28, 28)),
    "resnet": (Resnet(n=3, width=64), (3, 32, 32)),
}
"""The two networks, each with the shape of one row."""

CLASSES = 10
ENGINES = ("torch eager", "torch", "onnxruntime")
"""``torch`` keeps rows and weights channels last, as our server does; ``torch eager`` leaves them as they are."""

Predict = Callable[[Array], Array]


def onnx_file(home: Path) -> Path:
    """Returns the path of a network's ONNX file, in its folder."""
    return home / "network.onnx"


def module(home: Path, family: str) -> nn.Module:
    """Returns a network with its softmax, on one thread."""
    torch.set_num_threads(1)
    built, shape = FAMILIES[family]
    network = built.module(shape, CLASSES)
    network.load_state_dict(load_file(home / "weights.safetensors"))
    for layer in network.modules():
        if isinstance(layer, Linear):
            # The zoo's own class fixes the last bit, at a cost that raw forward passes and rivals do not bear.
            layer.__class__ = nn.Linear  # type: ignore[assignment]
    return nn.Sequential(network, nn.Softmax(1)).eval()


def load(home: Path, family: str, engine: str) -> Predict:
    """Loads a network from its folder: rows ``(n, *shape)`` in, probabilities ``(n, k)`` out, on one thread."""
    if engine == "onnxruntime":
        return _session(onnx_file(home))
    layout = torch.contiguous_format if engine == "torch eager" else torch.channels_last
    network = module(home, family).to(memory_format=layout)  # type: ignore[call-overload]

    @torch.inference_mode()
    def predict(x: Array) -> Array:
        rows = torch.from_numpy(np.require(x, requirements="W")).contiguous(memory_format=layout)
        probs: Array = network(rows).numpy()
        return probs

    return predict


def _session(path: Path) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def predict(x: Array) -> Array:
        probs: Array = session.run(None, {name: x})[0]
        return probs

    return predict
