"""Knockoff by the Adversarial Robustness Toolbox (ART), in an environment of its own.

    python art_knockoff.py DATA.npz OUT.json STRATEGY ROWS EPOCHS SEED

``DATA.npz`` has the pool ``x`` with its labels ``y`` and the victim's answers ``probs``, and the test rows
``x_test``. ``OUT.json`` gets the processor time of the attack, without the victim's, and the surrogate's labels.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

import numpy as np
import torch
from art.attacks.extraction import KnockoffNets
from art.estimators.classification import BlackBoxClassifier, PyTorchClassifier
from torch import nn


def block(before: int, width: int) -> list[nn.Module]:
    """Returns a block of the default CNN."""
    return [
        nn.Conv2d(before, width, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    ]


def main(data: str, out: str, strategy: str, rows: int, epochs: int, seed: int) -> None:
    """Steals once, and writes the time and the labels."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # ART draws from the global generators
    random.seed(seed)
    with np.load(data) as held:
        x, y, probs, test = (held[name] for name in ("x", "y", "probs", "x_test"))
    known = {row.tobytes(): answer for row, answer in zip(x, probs, strict=True)}

    def told(asked: np.ndarray) -> np.ndarray:
        return np.stack([known[row.tobytes()] for row in np.ascontiguousarray(asked, np.float32)])

    k, (channels, height, width) = probs.shape[1], x.shape[1:]
    module = nn.Sequential(
        *block(channels, 16),
        *block(16, 32),
        nn.Flatten(),
        nn.Linear(32 * (height // 4) * (width // 4), 128),
        nn.ReLU(),
        nn.Linear(128, k),
    )
    thieved = PyTorchClassifier(
        module,
        nn.CrossEntropyLoss(),
        x.shape[1:],
        k,
        optimizer=torch.optim.Adam(module.parameters(), 1e-3),
        clip_values=(0, 1),
        device_type="cpu",
    )
    attack = KnockoffNets(
        BlackBoxClassifier(told, x.shape[1:], k, clip_values=(0, 1)),
        batch_size_fit=64,
        batch_size_query=64,
        nb_epochs=epochs,
        nb_stolen=rows,
        sampling_strategy=strategy,
        reward="all",
        verbose=False,
        use_probability=True,
    )
    begun = time.process_time()
    stolen = attack.extract(x, y=np.eye(int(y.max()) + 1)[y], thieved_classifier=thieved)
    seconds = time.process_time() - begun
    labels = stolen.predict(test).argmax(axis=1)
    Path(out).write_text(json.dumps({"seconds": seconds, "labels": labels.tolist()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], *map(int, sys.argv[4:7]))
