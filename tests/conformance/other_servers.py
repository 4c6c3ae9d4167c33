"""Servers of the protocol that are not ours, as far as their documentation shows what they say.

Triton: the protocol extensions in its repository (`docs/protocol`); its metadata has no ``parameters``, and its
configuration tells the most rows of a request. OpenVINO Model Server: "KServe compatible RESTful API"; its models
are of a fixed batch, and its server metadata lists no extensions.
"""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from wire.tensors import HEADER_LENGTH, Tensor, pack, unpack

SIDES, CLASSES = (1, 6, 6), 3
WEIGHTS = np.random.default_rng(0).normal(size=(36, CLASSES))


def logits(x):
    """The model that all of them serve: a linear one, of which they tell the logits."""
    return (x.reshape(len(x), -1) @ WEIGHTS).astype(np.float32)


class TritonShaped:
    """Answers in logits, to at most so many rows in a request, in JSON or binary."""

    extensions = ("classification", "sequence", "model_repository", "model_configuration", "binary_tensor_data")
    max_batch = 8

    def __init__(self):
        self.requests = []

    def get(self, path):
        return {
            "/v2": {"name": "triton", "version": "2.50.0", "extensions": list(self.extensions)},
            "/v2/models/net": {
                "name": "net",
                "versions": ["1"],
                "platform": "onnxruntime_onnx",
                "inputs": [{"name": "data_0", "datatype": "FP32", "shape": [-1, *SIDES]}],
                "outputs": [{"name": "fc6_1", "datatype": "FP32", "shape": [-1, CLASSES]}],
            },
            "/v2/models/net/config": {"name": "net", "backend": "onnxruntime", "max_batch_size": self.max_batch},
        }.get(path)

    def infer(self, body, length):
        message, (given,) = unpack("inputs", body, length)
        x, (asked,) = given.array, message["outputs"]
        self.requests.append((len(x), given.binary))
        if len(x) > self.max_batch:
            fault = f"[request id: {message['id']}] inference request batch-size must be <= 8 for 'net'"
            return 400, json.dumps({"error": fault}).encode(), None
        binary = asked.get("parameters", {}).get("binary_data", False)
        fields = {"id": message["id"], "model_name": "net", "model_version": "1"}
        return 200, *pack("outputs", [Tensor(asked["name"], logits(x), binary)], fields)


class OpenVinoShaped(TritonShaped):
    """Takes one row in a request, in JSON."""

    extensions, max_batch = (), 1

    def get(self, path):
        known = {
            "/v2": {"name": "OpenVINO Model Server", "version": "2024.5"},
            "/v2/models/net": {
                "name": "net",
                "versions": ["1"],
                "platform": "OpenVINO",
                "inputs": [{"name": "data_0", "datatype": "FP32", "shape": [1, *SIDES]}],
                "outputs": [{"name": "fc6_1", "datatype": "FP32", "shape": [1, CLASSES]}],
            },
        }
        return known.get(path)


class Silent(TritonShaped):
    """Says nothing of its inputs and outputs, as MLServer does where nobody wrote them down."""

    def get(self, path):
        found = super().get(path)
        return {**found, "inputs": [], "outputs": []} if path == "/v2/models/net" else found


@contextmanager
def served(server):
    """Puts a server on a port of this machine, and yields its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1

        def do_GET(self):
            found = server.get(self.path)
            body = json.dumps(found or {"error": f"Request for unknown model: {self.path}"}).encode()
            self.reply(404 if found is None else 200, body, None)

        def do_POST(self):
            length = self.headers.get(HEADER_LENGTH)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(*server.infer(body, None if length is None else int(length)))

        def reply(self, status, body, length):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if length is not None:
                self.send_header(HEADER_LENGTH, str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            """Says nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_address[1]}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
