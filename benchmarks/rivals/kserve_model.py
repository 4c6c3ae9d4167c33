"""KServe's Python server: the Open Inference Protocol v2, binary over REST, raw over gRPC; it does not batch."""

import sys
from pathlib import Path

from kserve import InferOutput, InferResponse, Model, ModelServer

from benchmarks.serving.session import SHAPE, load

folder, port, grpc_port = sys.argv[1:4]


class Cnn(Model):
    """One model."""

    def load(self):
        """Loads the model."""
        self.predict_rows = load(Path(folder))
        self.ready = True
        return True

    async def predict(self, payload, headers=None, response_headers=None):
        """Answers about rows."""
        (given,) = payload.inputs
        probs = self.predict_rows(given.as_numpy().reshape(-1, *SHAPE))
        outputs = []
        for name, datatype, array in (("labels", "INT64", probs.argmax(1)), ("probabilities", "FP32", probs)):
            output = InferOutput(name, list(array.shape), datatype)
            output.set_data_from_numpy(array)
            outputs.append(output)
        return InferResponse(payload.id, self.name, outputs, use_binary_outputs=payload.use_binary_outputs)


if __name__ == "__main__":
    model = Cnn("cnn")
    model.load()
    server = ModelServer(http_port=int(port), grpc_port=int(grpc_port), enable_latency_logging=False)
    server.start([model])
