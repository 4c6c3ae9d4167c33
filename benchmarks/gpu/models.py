"""The models of the check, untrained, and what its phases write and read off the GPU."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from wire import Array
from wire.tensors import DATATYPES
from zoo.families.cnn import Cnn
from zoo.families.family import Architecture
from zoo.families.pretrained import Torchvision
from zoo.families.resnet import Resnet
from zoo.network import Network


@dataclass(frozen=True)
class Model:
    """A model; its speed does not depend on its training.

    Attributes:
        family: Its architecture.
        shape: Shape of one row.
        classes: Number of classes.
        dtype: Type of its rows on the wire.
        slowness: How much longer than others it is measured over HTTP.
    """

    family: Architecture
    shape: tuple[int, ...]
    classes: int = 10
    dtype: str = "FP32"
    slowness: float = 1.0

    def network(self, device: str) -> Network:
        """Returns the network, the same one every time."""
        names = tuple(f"class {number}" for number in range(self.classes))
        return Network.new(self.family, self.shape, names, seed=0, device=device)

    def rows(self, n: int, seed: int = 0) -> Array:
        """Draws n rows as they are sent."""
        drawn = np.random.default_rng(seed).integers(256, size=(n, *self.shape), dtype=np.uint8)
        return drawn if self.dtype == "UINT8" else drawn.astype(DATATYPES[self.dtype]) / np.float32(255)


MODELS = {
    "cnn": Model(Cnn(), (1, 28, 28)),
    "resnet": Model(Resnet(n=3, width=64), (3, 32, 32)),
    "resnet50": Model(Torchvision("resnet50"), (3, 224, 224), 1000, "UINT8", slowness=4.0),
}


def emit(**figures: Any) -> None:
    """Writes a line of results to the standard output."""
    sys.stdout.write(json.dumps(figures) + "\n")
    sys.stdout.flush()


def smi(query: str, *fields: str) -> list[list[str]]:
    """Asks nvidia-smi for fields of GPUs (``gpu``) or processes (``compute-apps``); nothing without it."""
    command = ["nvidia-smi", f"--query-{query}={','.join(fields)}", "--format=csv,noheader,nounits"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
        return [[entry.strip() for entry in line.split(",")] for line in told.splitlines()]
    return []


@contextlib.contextmanager
def busy() -> Iterator[list[float]]:
    """Collects the percentage of the time in which the GPU computed, every quarter of a second."""
    samples = list[float]()
    command = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=250"]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    except OSError:
        yield samples
        return
    try:
        yield samples
    finally:
        process.terminate()
        for line in process.communicate()[0].splitlines():
            with contextlib.suppress(ValueError):
                samples.append(float(line))
