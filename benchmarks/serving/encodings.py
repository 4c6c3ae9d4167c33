"""The encodings of rows and answers that each kind of server understands."""

from __future__ import annotations

import base64
import http.client
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import ClassVar, Literal, NamedTuple, Protocol

import grpc
import numpy as np
import orjson

from benchmarks.serving import v2_grpc
from benchmarks.serving.session import CLASSES
from wire import Array, Labels
from wire.tensors import HEADER_LENGTH, Tensor, pack, unpack


class Answered(NamedTuple):
    """A server's answer: labels ``(n,)`` and probabilities ``(n, k)``."""

    labels: Labels
    probs: Array


class BadStatus(Exception):
    """A server answered with another status than 200."""


class Encoding(Protocol):
    """How rows and answers are written, and over what."""

    @property
    def protocol(self) -> Literal["http", "grpc"]:
        """The protocol that carries them."""
        ...

    def request(self, model: str, x: Array, headers: Mapping[str, str]) -> bytes:
        """Returns the bytes of a whole request."""
        ...

    def ask(self, port: int, request: bytes) -> Answered:
        """Sends a request once and reads the answer.

        Raises:
            BadStatus: The server refused it.
            OSError: The server cannot be reached.
        """
        ...


@dataclass(frozen=True)
class Http:
    """An encoding over HTTP.

    Attributes:
        path: The URL's path, with ``{model}`` for the model's name.
        write: From rows to a body and its headers.
        read: From an answer's body and headers to its labels and probabilities.
    """

    path: str
    write: Callable[[Array], tuple[bytes, Mapping[str, str]]]
    read: Callable[[bytes, Message], Answered]

    protocol: ClassVar[Literal["http"]] = "http"

    def request(self, model: str, x: Array, headers: Mapping[str, str]) -> bytes:
        """Returns the bytes of a whole request."""
        body, more = self.write(x)
        fields = {"Host": "localhost", "Content-Length": len(body), **headers, **more}
        lines = [f"{name}: {value}" for name, value in fields.items()]
        start = f"POST {self.path.format(model=model)} HTTP/1.1"
        return "\r\n".join([start, *lines, "", ""]).encode() + body

    def ask(self, port: int, request: bytes) -> Answered:
        """Sends a request once and reads the answer."""
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            return self.exchange(connection, request)

    def exchange(self, connection: socket.socket, request: bytes) -> Answered:
        """Sends a request over a connection, which stays open, and reads the answer."""
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = response.read()
        if response.status != 200:
            raise BadStatus(f"status {response.status}: {body[:300].decode(errors='replace')}")
        return self.read(body, response.headers)


class Grpc:
    """The Open Inference Protocol v2 over gRPC, with raw tensors; our server does not offer it."""

    protocol: ClassVar[Literal["grpc"]] = "grpc"

    def request(self, model: str, x: Array, headers: Mapping[str, str]) -> bytes:
        """Returns the bytes of a message; it has no headers."""
        return v2_grpc.pack(model, x)

    def ask(self, port: int, request: bytes) -> Answered:
        """Sends a message once and reads the answer."""
        try:
            found = v2_grpc.unpack(v2_grpc.ask(port, request))
        except grpc.RpcError as error:
            raise BadStatus(str(error)) from None
        return Answered(found["labels"].reshape(-1), found["probabilities"])


_JSON = {"Content-Type": "application/json"}


def _v2_binary(x: Array) -> tuple[bytes, Mapping[str, str]]:
    body, head = pack("inputs", [Tensor("input", x)], {"parameters": {"binary_data_output": True}})
    return body, {HEADER_LENGTH: str(head), "Content-Type": "application/octet-stream"}


def _v2_json(x: Array) -> tuple[bytes, Mapping[str, str]]:
    return pack("inputs", [Tensor("input", x, binary=False)], {})[0], _JSON


def _v2_base64(x: Array) -> tuple[bytes, Mapping[str, str]]:
    # MLServer has no binary extension over REST; raw bytes as text are the nearest.
    text = base64.b64encode(x.tobytes()).decode()
    given = {"name": "input", "shape": [len(x), 1], "datatype": "BYTES", "data": [text]}
    return orjson.dumps({"inputs": [given]}), _JSON


def _read_v2(body: bytes, headers: Message) -> Answered:
    length = headers.get(HEADER_LENGTH)
    _, tensors = unpack("outputs", body, None if length is None else int(length))
    found = {tensor.name: tensor.array for tensor in tensors}
    return Answered(found["labels"].reshape(-1), found["probabilities"])


def _lists(x: Array) -> tuple[bytes, Mapping[str, str]]:
    return orjson.dumps({"instances": x}, option=orjson.OPT_SERIALIZE_NUMPY), _JSON


def _read_lists(body: bytes, headers: Message) -> Answered:
    answer = orjson.loads(body)
    return Answered(np.array(answer["labels"]), np.array(answer["probabilities"]))


def _base64(x: Array) -> tuple[bytes, Mapping[str, str]]:
    return orjson.dumps({"b64": base64.b64encode(x.tobytes()).decode()}), _JSON


def _read_base64(body: bytes, headers: Message) -> Answered:
    answer = orjson.loads(body)
    labels = np.frombuffer(base64.b64decode(answer["labels"]), np.int64)
    return Answered(
        labels, np.frombuffer(base64.b64decode(answer["probabilities"]), np.float32).reshape(len(labels), -1)
    )


def _read_probs(body: bytes, headers: Message) -> Answered:
    probs = np.array(orjson.loads(body))
    return Answered(probs.argmax(axis=1), probs)


def _octets(x: Array) -> tuple[bytes, Mapping[str, str]]:
    return x.tobytes(), {"Content-Type": "application/octet-stream"}


def _read_octets(body: bytes, headers: Message) -> Answered:
    rows = len(body) // (8 + 4 * CLASSES)
    return Answered(
        np.frombuffer(body[: 8 * rows], np.int64),
        np.frombuffer(body[8 * rows :], np.float32).reshape(rows, CLASSES),
    )


_V2 = "/v2/models/{model}/infer"
BINARY = Http(_V2, _v2_binary, _read_v2)
V2: dict[str, Encoding] = {
    "binary": BINARY,
    "JSON": Http(_V2, _v2_json, _read_v2),
    "base64": Http(_V2, _v2_base64, _read_v2),
    "gRPC": Grpc(),
}
ENCODINGS: dict[str, Mapping[str, Encoding]] = {
    "ours": {name: V2[name] for name in ("binary", "JSON")},
    **{name: {"octets": Http("/inference", _octets, _read_octets)} for name in ("mosec", "bare")},
    "triton": {name: V2[name] for name in ("binary", "gRPC")},
    "kserve": {name: V2[name] for name in ("binary", "gRPC")},
    "mlserver": {name: V2[name] for name in ("base64", "gRPC")},
    "litserve": {
        "JSON": Http("/predict", _lists, _read_lists),
        "base64": Http("/predict", _base64, _read_base64),
    },
    "fastapi": {"JSON": Http("/predict", _lists, _read_lists)},
    "bentoml": {"JSON": Http("/predict", _lists, _read_probs)},
    "ray": {"JSON": Http("/predict", _lists, _read_lists)},
}
"""The encodings of every server by name."""
