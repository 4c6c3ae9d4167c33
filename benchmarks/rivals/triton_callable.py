"""Triton by PyTriton: its C++ server, binary over REST and raw over gRPC, batching without delay.

The model is a Python callable behind Triton's Python backend: PyTriton's wheel holds no other.
"""

import os
import sys
import sysconfig
from pathlib import Path

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from benchmarks.serving.session import CLASSES, SHAPE, load

if __name__ == "__main__":
    folder, port, grpc_port = sys.argv[1:4]
    # Triton starts an interpreter of its own, which must find this Python's library and not the system's.
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
    predict_rows = load(Path(folder))

    @batch
    def predict(input):
        """Answers about the rows of several requests."""
        probs = predict_rows(input)
        return {"labels": probs.argmax(1, keepdims=True), "probabilities": probs}

    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(port),
        grpc_address="127.0.0.1",
        grpc_port=int(grpc_port),
        allow_metrics=False,
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="cnn",
            infer_func=predict,
            inputs=[Tensor(name="input", dtype=np.float32, shape=SHAPE)],
            outputs=[
                Tensor(name="labels", dtype=np.int64, shape=(1,)),
                Tensor(name="probabilities", dtype=np.float32, shape=(CLASSES,)),
            ],
            config=ModelConfig(max_batch_size=256, batcher=DynamicBatcher()),
        )
        triton.serve()
