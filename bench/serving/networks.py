"""The bench's networks: the same weights for everybody, and rows about which no defence's noise turns a label.

How fast they are does not depend on what they know, so they learn a toy of ten patterns, in seconds.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import torch

from bench.serving.engine import CLASSES, FAMILIES, module, onnx_file, weights_file
from wire import Array, BadInput
from zoo import folder
from zoo.network import Network
from zoo.training import Training

ROWS, TAUGHT = 64, 512
MARGIN = 0.5  # least distance of a row's two greatest probabilities, ten times the noise's deviation


def make(work: Path, family: str, seed: int) -> tuple[Array, int]:
    """Writes a network as our server's folder and as ONNX.

    Returns:
        Rows ``(ROWS, *shape)`` float32 in [0, 1] to ask about, and the number of the network's parameters.
    """
    built, shape = FAMILIES[family]
    names = tuple(f"class {number}" for number in range(CLASSES))
    network = Network.new(built, shape, names, seed=seed, device="cpu")
    rng = np.random.default_rng(seed)
    patterns, y = rng.random((CLASSES, *shape), np.float32), rng.permutation(np.arange(TAUGHT) % CLASSES)
    x = (0.7 * patterns[y] + 0.3 * rng.random((TAUGHT, *shape), np.float32)).astype(np.float32)
    network.fit(x, y, Training(epochs=1, batch=8), seed=seed, label=f"{family} for the bench")
    first, second = np.sort(network.predict(x), axis=1)[:, :-3:-1].T
    sure = x[first - second > MARGIN][:ROWS]
    if len(sure) < ROWS:
        raise BadInput(
            f"the {family} is sure of {len(sure)} rows with seed {seed}; expected {ROWS}: try another seed"
        )
    folder.save(network, weights_file(work, family).parent)
    _export(work, family, sure)
    return sure, sum(parameter.numel() for parameter in network.module.parameters())


def _export(work: Path, family: str, x: Array) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            module(work, family),
            (torch.from_numpy(x),),
            onnx_file(work, family),
            input_names=["input"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            verbose=False,
            external_data=False,
        )
