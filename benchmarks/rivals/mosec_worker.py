"""Mosec: raw float32 in, labels and probabilities raw out, with its batching (64 requests, 1 ms) or without.

Its HTTP server is in Rust; the model runs in a Python process behind a socket. It has neither keys nor defences.
"""

import os
import sys
from pathlib import Path

import numpy as np
from mosec import Server, Worker

from benchmarks.serving.session import SHAPE, load


class Cnn(Worker):
    """One model."""

    resp_mime_type = "application/octet-stream"

    def __init__(self):
        """Loads the model."""
        super().__init__()
        self.predict_rows = load(Path(os.environ["RIVAL_FOLDER"]))

    def deserialize(self, data):
        """Reads rows."""
        return np.frombuffer(data, np.float32).reshape(-1, *SHAPE)

    def serialize(self, data):
        """Writes an answer."""
        return data.argmax(1).tobytes() + data.tobytes()

    def forward(self, data):
        """Answers about one request's rows, or about those of several."""
        if isinstance(data, np.ndarray):
            return self.predict_rows(data)
        probs = self.predict_rows(np.concatenate(data))
        return np.split(probs, np.cumsum([len(rows) for rows in data])[:-1])


if __name__ == "__main__":
    # Worker processes import this file, and Mosec reads flags of its own.
    os.environ["RIVAL_FOLDER"], port, _, batched = sys.argv[1:5]
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", port, "--log-level", "warning"]
    batching = {"max_batch_size": 64, "max_wait_time": 1} if batched == "batched" else {}
    server = Server()
    server.append_worker(Cnn, num=1, **batching)
    server.run()
