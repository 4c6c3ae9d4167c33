"""MLServer: the Open Inference Protocol v2 in JSON, as numbers or as base64, batching adaptively or not.

Its REST server does not offer the protocol's binary extension; base64 in BYTES is the nearest that it has.
"""

import asyncio
import base64
import sys
from pathlib import Path

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

from benchmarks.serving.session import SHAPE, load


class Runtime(MLModel):
    """One model."""

    async def load(self) -> bool:
        """Loads the model."""
        self.predict_rows = load(Path(folder))
        return True

    async def predict(self, payload):
        """Answers about rows."""
        (given,) = payload.inputs
        if given.datatype == "BYTES":
            data = b"".join(base64.b64decode(row) for row in given.data)
            rows = np.frombuffer(data, np.float32).reshape(-1, *SHAPE)
        else:
            rows = NumpyCodec.decode_input(given).astype(np.float32)
        probs = self.predict_rows(rows)
        outputs = [
            NumpyCodec.encode_output("labels", probs.argmax(1)),
            NumpyCodec.encode_output("probabilities", probs),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)


async def main() -> None:
    """Serves until it is ended."""
    settings = Settings(
        host="127.0.0.1",
        http_port=int(port),
        grpc_port=int(grpc_port),
        metrics_endpoint=None,
        parallel_workers=0,  # its worker processes cost a copy of every tensor, and there is one model
        debug=False,
    )
    batching = {"max_batch_size": 64, "max_batch_time": 0.002} if batched == "batched" else {}
    await MLServer(settings).start([ModelSettings(name="cnn", implementation=Runtime, **batching)])


if __name__ == "__main__":
    folder, port, grpc_port, batched = sys.argv[1:5]
    asyncio.run(main())
