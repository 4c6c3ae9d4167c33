"""The encodings of rows and answers that each kind of server understands."""

from __future__ import annotations

import base64
import http.client
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import NamedTuple

import numpy as np
import orjson

from wire import Array, Labels
from wire.tensors import HEADER_LENGTH, Tensor, pack, unpack


class Answered(NamedTuple):
    """A server's answer: labels ``(n,)`` and probabilities ``(n, k)``."""

    labels: Labels
    probs: Array


@dataclass(frozen=True)
class Encoding:
    """One encoding.

    Attributes:
        path: The URL's path, with ``{model}`` for the model's name.
        write: From rows to a body and its headers.
        read: From an answer's body and headers to its labels and probabilities.
    """

    path: str
    write: Callable[[Array], tuple[bytes, Mapping[str, str]]]
    read: Callable[[bytes, Message], Answered]

    def request(self, model: str, x: Array, headers: Mapping[str, str]) -> bytes:
        """Returns the bytes of a whole HTTP request."""
        body, more = self.write(x)
        lines = [f"POST {self.path.format(model=model)} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in {**headers, **more}.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body


class BadStatus(Exception):
    """A server answered with another status than 200."""


def ask(port: int, request: bytes, encoding: Encoding) -> Answered:
    """Sends a request once and reads the answer.

    Raises:
        BadStatus: Its status was not 200.
        OSError: The server cannot be reached.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(request)
        response = http.client.HTTPResponse(connection)
        response.begin()
        body = response.read()
    if response.status != 200:
        raise BadStatus(f"status {response.status}: {body[:300].decode(errors='replace')}")
    return encoding.read(body, response.headers)


_JSON = {"Content-Type": "application/json"}


def _v2_binary(x: Array) -> tuple[bytes, Mapping[str, str]]:
    body, head = pack("inputs", [Tensor("input", x)], {"parameters": {"binary_data_output": True}})
    return body, {HEADER_LENGTH: str(head), "Content-Type": "application/octet-stream"}


def _v2_json(x: Array) -> tuple[bytes, Mapping[str, str]]:
    return pack("inputs", [Tensor("input", x, binary=False)], {})[0], _JSON


def _v2_base64(x: Array) -> tuple[bytes, Mapping[str, str]]:
    # MLServer offers no binary extension over REST; raw bytes as text are the nearest.
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


_V2 = "/v2/models/{model}/infer"
V2 = {
    "binary": Encoding(_V2, _v2_binary, _read_v2),
    "JSON": Encoding(_V2, _v2_json, _read_v2),
    "base64": Encoding(_V2, _v2_base64, _read_v2),
}
LISTS = {
    "JSON": Encoding("/predict", _lists, _read_lists),
    "base64": Encoding("/predict", _base64, _read_base64),
}
BENTOML = {"JSON": Encoding("/predict", _lists, _read_probs)}
