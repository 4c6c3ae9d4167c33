"""The small CNN in ONNX Runtime, for every server but ours, and for the raw forward pass.

A rival's environment holds its own server, numpy and the same ONNX Runtime as ours; it finds this file by
``PYTHONPATH``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]

SHAPE, CLASSES = (1, 28, 28), 10
"""The shape of a row, and the number of classes."""


def onnx_file(home: Path) -> Path:
    """Returns the path of a network's ONNX file, in its folder."""
    return home / "network.onnx"


def load(home: Path) -> Predict:
    """Loads a network from its folder: rows ``(n, *shape)`` in, probabilities ``(n, k)`` out, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(onnx_file(home)), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def predict(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        probs: npt.NDArray[np.float32] = session.run(None, {name: x})[0]
        return probs

    return predict
