"""Ray Serve: JSON lists, with ``serve.batch`` (64 requests, 2 ms)."""

import signal
import sys
from pathlib import Path

import numpy as np
import ray
from ray import serve

from benchmarks.serving.session import load


@serve.deployment(max_ongoing_requests=256)
class Cnn:
    """One model."""

    def __init__(self, folder):
        self.predict_rows = load(Path(folder))

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.002)
    async def answer(self, requests):
        """Answers about the rows of several requests."""
        sizes = [len(rows) for rows in requests]
        probs = self.predict_rows(np.concatenate(requests))
        return np.split(probs, np.cumsum(sizes)[:-1])

    async def __call__(self, request):
        """Answers about one request's rows."""
        rows = np.asarray((await request.json())["instances"], np.float32)
        probs = await self.answer(rows)
        return {"labels": probs.argmax(1).tolist(), "probabilities": probs.tolist()}


if __name__ == "__main__":
    folder, port = sys.argv[1:3]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(Cnn.bind(folder), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
