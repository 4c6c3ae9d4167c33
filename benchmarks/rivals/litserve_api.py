"""LitServe: JSON lists or base64 in JSON, with its batching (64 requests, 2 ms) or without."""

import base64
import sys
from pathlib import Path

import litserve
import numpy as np

from benchmarks.serving.session import SHAPE, load

folder, port, _, batched = sys.argv[1:5]


class Api(litserve.LitAPI):
    """One model; an answer comes in the encoding of its request."""

    def setup(self, device):
        """Loads the model."""
        self.predict_rows = load(Path(folder))

    def decode_request(self, request):
        """Reads rows, and remembers how they came."""
        if "b64" in request:
            flat = np.frombuffer(base64.b64decode(request["b64"]), np.float32)
            return flat.reshape(-1, *SHAPE), True
        return np.asarray(request["instances"], np.float32), False

    def batch(self, inputs):
        """Joins the rows of several requests."""
        return np.concatenate([rows for rows, _ in inputs]), [(len(rows), packed) for rows, packed in inputs]

    def unbatch(self, output):
        """Parts the answers again."""
        probs, sizes = output
        ends = np.cumsum([size for size, _ in sizes])
        return [(probs[end - size : end], packed) for end, (size, packed) in zip(ends, sizes, strict=True)]

    def predict(self, rows):
        """Answers about one request's rows, or about those of several."""
        rows, rest = rows
        return self.predict_rows(rows), rest

    def encode_response(self, output):
        """Writes an answer."""
        probs, packed = output
        if packed:
            labels = probs.argmax(1)
            return {
                "labels": base64.b64encode(labels.tobytes()).decode(),
                "probabilities": base64.b64encode(probs.tobytes()).decode(),
            }
        return {"labels": probs.argmax(1).tolist(), "probabilities": probs.tolist()}


if __name__ == "__main__":
    batching = {"max_batch_size": 64, "batch_timeout": 0.002} if batched == "batched" else {}
    server = litserve.LitServer(Api(**batching), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), log_level="warning", generate_client_file=False)
