"""BentoML: JSON lists, with its adaptive batching."""

import os
import sys
from pathlib import Path

import bentoml
import numpy as np

from benchmarks.serving.session import load


@bentoml.service(workers=1, metrics={"enabled": False})
class Cnn:
    """One model."""

    def __init__(self) -> None:
        self.predict_rows = load(Path(os.environ["RIVAL_FOLDER"]))

    @bentoml.api(batchable=True, max_batch_size=1024, max_latency_ms=1000)
    def predict(self, instances: np.ndarray) -> np.ndarray:
        """Answers about rows."""
        return self.predict_rows(instances.astype(np.float32))


if __name__ == "__main__":
    os.environ["RIVAL_FOLDER"], port = sys.argv[1:3]
    service = f"{Path(__file__).stem}:{Cnn.name}"
    command = ["bentoml", "serve", service, "--working-dir", str(Path(__file__).parent), "--port", port]
    os.execvp("bentoml", [*command, "--host", "127.0.0.1"])
