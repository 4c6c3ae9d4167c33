"""The networks of the comparison: the same weights for every server, and rows whose labels survive the noise.

Their speed does not depend on their task, so they learn a toy of ten patterns, in seconds.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch

from benchmarks.serving.engine import FAMILIES, module
from benchmarks.serving.session import CLASSES, onnx_file
from wire import Array
from zoo import folder
from zoo.cache import once
from zoo.network import Network
from zoo.training import Training

ROWS, TAUGHT = 1024, 512
MARGIN = 0.5  # between a row's two greatest probabilities: ten times the noise's standard deviation


def make(home: Path, family: str, cache: Path) -> tuple[Array, int]:
    """Writes a network as our server's folder and as ONNX.

    Args:
        home: The folder, which must not exist yet.
        family: Name of the network's family.
        cache: Folder that keeps the network for the next run.

    Returns:
        Distinct rows ``(ROWS, *shape)`` float32 in [0, 1] to query, and the number of parameters.
    """
    shutil.copytree(once(cache / f"{family}-{ROWS}-{torch.__version__}", lambda made: _build(made, family)), home)
    rows: Array = np.load(home / "rows.npy", allow_pickle=False)
    return rows, sum(parameter.numel() for parameter in module(home, family).parameters())


def _build(home: Path, family: str) -> None:
    built, shape = FAMILIES[family]
    names = tuple(f"class {number}" for number in range(CLASSES))
    network = Network.new(built, shape, names, seed=0, device="cpu")
    rng = np.random.default_rng(0)
    patterns, y = rng.random((CLASSES, *shape), np.float32), rng.permutation(np.arange(3 * ROWS) % CLASSES)
    x = (0.7 * patterns[y] + 0.3 * rng.random((len(y), *shape), np.float32)).astype(np.float32)
    training = Training(epochs=1, batch=8)
    network.fit(x[:TAUGHT], y[:TAUGHT], training, seed=0, label=f"{family} for the benchmark")
    first, second = np.sort(network.predict(x), axis=1)[:, :-3:-1].T
    sure = x[first - second > MARGIN][:ROWS]
    assert len(sure) == ROWS, f"the {family} is sure of {len(sure)} rows; {ROWS} are needed"
    np.save(home / "rows.npy", sure)
    folder.save(network, home)
    _export(home, family, sure)


def _export(home: Path, family: str, x: Array) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            module(home, family),
            (torch.from_numpy(x),),
            onnx_file(home),
            input_names=["input"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            verbose=False,
            external_data=False,
        )
