"""A tiny server of the Open Inference Protocol, for tests of clients that must not know the real one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from wire import Array
from wire.tensors import HEADER_LENGTH, Tensor, pack, unpack


@dataclass
class FakeServer:
    """Serves one model, ``m``, at ``url``; how it behaves is set by its fields, at any time.

    Attributes:
        predict: The model, from rows ``(n, *input_shape)`` to probabilities ``(n, k)``.
        input_shape: Shape of a row.
        classes: Names of the classes.
        tells_probs: Whether probabilities are told.
        top_k: Tell only so many of them, and NaN for the others.
        refuse_after: Refuse for good (403) from so many rows on.
        rest_after: After so many rows, refuse with 429 and a Retry-After until that time has passed.
        retry_after: Seconds of that time.
        on_request: Called before each inference is answered.
        key: The only key that is let in.
        rows: Rows answered so far.
        limited: Requests refused with 429 so far.
    """

    predict: Callable[[Array], Array]
    input_shape: tuple[int, ...]
    classes: tuple[str, ...]
    tells_probs: bool = True
    top_k: int | None = None
    refuse_after: int | None = None
    rest_after: int | None = None
    retry_after: int = 1
    on_request: Callable[[], object] = lambda: None
    key: str = "secret-key"
    rows: int = 0
    limited: int = 0
    open_at: float = 0.0

    def __enter__(self) -> FakeServer:
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"fake": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def get(self, path: str) -> dict[str, object] | None:
        outputs = [{"name": "labels", "datatype": "INT64", "shape": [-1]}]
        if self.tells_probs:
            outputs.append({"name": "probabilities", "datatype": "FP32", "shape": [-1, len(self.classes)]})
        known: dict[str, dict[str, object]] = {
            "/v2": {"name": "fake", "version": "1", "extensions": ["binary_tensor_data"]},
            "/v2/models/m": {
                "name": "m",
                "versions": ["1"],
                "inputs": [{"name": "input", "datatype": "FP32", "shape": [-1, *self.input_shape]}],
                "outputs": outputs,
                "parameters": {"classes": list(self.classes), "low": 0.0, "high": 1.0, "max_rows": 64},
            },
            "/v1/models": {"models": ["m"]},
            "/v1/account": {"rows": self.rows, "prices": {"per_row": 1000, "per_request": 0}},
        }
        return known.get(path)

    def infer(self, x: Array) -> tuple[int, dict[str, str], list[Tensor] | str]:
        """Answers about rows: a status, headers, and tensors or what went wrong."""
        with self._lock:
            self.on_request()
            now = time.monotonic()
            if self.rest_after is not None and self.rows >= self.rest_after:
                self.rest_after, self.open_at = None, now + self.retry_after
            if now < self.open_at:
                self.limited += 1
                return 429, {"Retry-After": str(self.retry_after)}, "too fast"
            if self.refuse_after is not None and self.rows + len(x) > self.refuse_after:
                return 403, {}, "this account is closed"
            self.rows += len(x)
        probs = self.predict(x)
        tensors = [Tensor("labels", probs.argmax(axis=1).astype(np.int64))]
        if self.tells_probs:
            if self.top_k is not None:
                rank = (-probs).argsort(axis=1).argsort(axis=1)
                probs = np.where(rank < self.top_k, probs, np.nan)
            tensors.append(Tensor("probabilities", probs.astype(np.float32)))
        return 200, {}, tensors


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        found = self.fake.get(self.path) if self._known() else None
        if found is not None:
            self._reply(200, json.dumps(found).encode())
        elif self._known():
            self._reply(404, json.dumps({"error": f"nothing at {self.path}"}).encode())
        else:
            self._reply(401, json.dumps({"error": "unknown key"}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self._known():
            return self._reply(401, json.dumps({"error": "unknown key"}).encode())
        length = self.headers.get(HEADER_LENGTH)
        message, tensors = unpack("inputs", body, None if length is None else int(length))
        wanted = [entry["name"] for entry in message["outputs"]]
        status, headers, told = self.fake.infer(tensors[0].array)
        if isinstance(told, str):
            return self._reply(status, json.dumps({"error": told}).encode(), headers)
        content, head = pack("outputs", [tensor for tensor in told if tensor.name in wanted], {"model_name": "m"})
        return self._reply(status, content, {HEADER_LENGTH: str(head)} if head else {})

    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.fake.key}"

    def _reply(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        """Says nothing."""
