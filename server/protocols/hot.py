"""The routes that carry rows, without a framework: a request costs what its tensors cost.

``POST /v2/models/{model}[/versions/{version}]/infer`` and ``POST /v1/models/{model}:predict``. Their documentation
stands with the other routes of their protocols, in :mod:`server.routes`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import orjson
from starlette.types import Receive

from server.deployment.service import Service, idempotency_key
from server.deployment.stack import Deployed
from server.http.body import read_body
from server.protocols.rows import read_instances, read_request, request_id
from wire import Answer, Array, Card, Malformed
from wire.ratelimit import answer_headers
from wire.tensors import HEADER_LENGTH, Tensor, pack

NOT_OFFERED = {"classification", "shared_memory_region", "sequence_id", "priority", "timeout"}
"""Parameters of Triton's other extensions that would change the answer, and so cannot be passed over."""

_LENGTH = HEADER_LENGTH.lower().encode()
_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")


Headers = list[tuple[bytes, bytes]]


class Protocol(NamedTuple):
    """How one protocol says what is asked and what is answered.

    Attributes:
        template: The route, as metrics and logs name it.
        read: Takes headers, body, card and the most bytes of JSON; returns the message, its rows, and what else
            :attr:`write` needs.
        write: Takes an answer, the card, and what ``read`` returned; returns headers and body.
    """

    template: str
    read: Callable[[Mapping[bytes, bytes], bytes, Card, int], tuple[dict[str, Any], Array, Any]]
    write: Callable[[Answer, Card, Any], tuple[Headers, bytes]]


class Target(NamedTuple):
    """What a path asks of which model."""

    protocol: Protocol
    model: str
    version: str | None = None


@dataclass(slots=True)
class RequestRecord:
    """What is known of a request by its end, for metrics and logs.

    Attributes:
        id: Its id.
        route: The template of its route.
        status: The status of its answer; 0 until it is sent.
        account: Name of the account whose key it held.
        model: The model that it asked.
        rows: How many rows were answered.
        reason: What refused it.
    """

    id: str
    route: str = "unknown"
    status: int = 0
    account: str | None = None
    model: str | None = None
    rows: int | None = None
    reason: str | None = None


def find(path: str) -> Target | None:
    """Tells what a path asks, or None if it is none of these routes."""
    match path.split("/"):
        case ["", "v2", "models", model, "infer"]:
            return Target(V2, model)
        case ["", "v2", "models", model, "versions", version, "infer"]:
            return Target(V2, model, version)
        case ["", "v1", "models", call] if call.endswith(":predict"):
            return Target(V1, call.removesuffix(":predict"))
    return None


def authorization(headers: Mapping[bytes, bytes]) -> str | None:
    """Returns what a request says of who asks."""
    given = headers.get(b"authorization")
    return None if given is None else given.decode("latin-1")


async def answer(
    here: Service, target: Target, headers: Mapping[bytes, bytes], receive: Receive, visit: RequestRecord
) -> tuple[Headers, bytes]:
    """Answers a request with headers and a body, and notes on the visit what becomes known of it.

    Raises:
        Refused: A defence or the server refuses it.
        Malformed: It is not of the protocol, or its rows are not the model's.
        ClientDisconnect: The client left before its body arrived.
    """
    protocol, model, version = target
    # Before the body is read: who has no key may not make the server hold one.
    visitor = await here.admit(authorization(headers))
    visit.account = visitor.account.name
    body = await read_body(headers, receive, here.settings.max_body, here.settings.body_seconds)

    def read(deployed: Deployed) -> tuple[Array, str | None, Any]:
        visit.model = model
        message, x, rest = protocol.read(headers, body, deployed.card, here.settings.max_json)
        return x, idempotency_key(model, request_id(message), x), rest

    answered, limits, deployed, rest = await here.ask(visitor, model, version, read)
    visit.rows = len(answered)
    more, told = protocol.write(answered, deployed.card, rest)
    return more + answer_headers(limits), told


def _read_v2(
    headers: Mapping[bytes, bytes], body: bytes, card: Card, most_json: int
) -> tuple[dict[str, Any], Array, Any]:
    message, x = read_request(headers.get(_LENGTH), body, card, most_json)
    return message, x, (message.get("id"), _wanted(message, card))


def _write_v2(
    answered: Answer, card: Card, rest: tuple[str | None, list[tuple[str, bool]]]
) -> tuple[Headers, bytes]:
    name, wanted = rest
    fields = {"model_name": card.model, "model_version": card.version}
    if name is not None:
        fields["id"] = name
    body, head = pack("outputs", [_tensor(answered, output, binary) for output, binary in wanted], fields)
    return ([_JSON] if head is None else [_BINARY, (_LENGTH, b"%d" % head)]), body


def _read_v1(
    headers: Mapping[bytes, bytes], body: bytes, card: Card, most_json: int
) -> tuple[dict[str, Any], Array, Any]:
    return *read_instances(body, card, most_json), None


def _write_v1(answered: Answer, card: Card, rest: None) -> tuple[Headers, bytes]:
    predictions: list[dict[str, Any]] = []
    for row, label in enumerate(answered.labels.tolist()):
        prediction: dict[str, Any] = {"label": label, "class": card.class_names[label]}
        if answered.probs is not None:
            prediction["probabilities"] = answered.probs[row]  # what is withheld (NaN) becomes null
        predictions.append(prediction)
    return [_JSON], orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


V2 = Protocol("/v2/models/{model}/infer", _read_v2, _write_v2)
V1 = Protocol("/v1/models/{model}:predict", _read_v1, _write_v1)


def _wanted(message: dict[str, Any], card: Card) -> list[tuple[str, bool]]:
    """Reads which outputs a request asks for, and which of them in binary; by default all that are disclosed."""
    disclosed = ["labels", "probabilities"] if card.tells_probs else ["labels"]
    parameters = _parameters(message, "the request")
    _expect_offered(parameters, "the request")
    everywhere = parameters.get("binary_data_output", False) is True
    asked = message.get("outputs")
    if not asked:
        return [(name, everywhere) for name in disclosed]
    if not isinstance(asked, list) or not all(isinstance(output, dict) for output in asked):
        raise Malformed('"outputs" must be a list of objects')
    wanted: list[tuple[str, bool]] = []
    for output in asked:
        name = output.get("name")
        if name not in disclosed:
            raise Malformed(f"no output {name!r} is disclosed by this model; disclosed: {', '.join(disclosed)}")
        parameters = _parameters(output, f"output {name!r}")
        _expect_offered(parameters, f"output {name!r}")
        if name in (known for known, _ in wanted):
            raise Malformed(f"output {name!r} is asked for twice")
        wanted.append((name, parameters.get("binary_data", everywhere) is True))
    return wanted


def _expect_offered(parameters: dict[str, Any], what: str) -> None:
    for name in NOT_OFFERED & parameters.keys():
        raise Malformed(f"{what}: {name!r} is not offered; of the protocol's extensions, binary_tensor_data is")


def _parameters(holder: dict[str, Any], what: str) -> dict[str, Any]:
    parameters = holder.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Malformed(f'"parameters" of {what} must be an object')
    return parameters


def _tensor(answered: Answer, name: str, binary: bool) -> Tensor:
    if name == "labels" or answered.probs is None:
        return Tensor("labels", answered.labels, binary)
    return Tensor("probabilities", np.ascontiguousarray(answered.probs, np.float32), binary)
