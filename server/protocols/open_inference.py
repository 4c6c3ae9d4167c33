"""The Open Inference Protocol v2 (KServe), with the binary tensor data extension.

``POST /v2/models/{model}[/versions/{version}]/infer`` carries rows, in JSON or binary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache

import msgspec
import numpy as np
from fastapi import APIRouter, Request

from server.deployment import service as services
from server.deployment.stack import Deployed
from server.deployment.values import MOST_CHARACTERS
from server.http.body import Body
from server.http.openapi import NAMED, OPEN, Operation
from server.protocols.open_inference_messages import (
    InferRequest,
    InferResponse,
    ModelMetadata,
    ModelReady,
    ServerLive,
    ServerMetadata,
    ServerReady,
    TensorMetadata,
)
from server.protocols.protocol import JSON, Asked, Headers, Route
from server.protocols.rows import (
    RequestId,
    expect_numbers,
    expect_rows,
    expect_short,
    expect_short_texts,
    read_json,
    row_size,
)
from wire import Answer, Array, Card, Malformed
from wire.tensors import DATATYPES, HEADER_LENGTH, Tensor, TensorHead, decode, pack
from wire.texts import as_texts
from wire.types import BLUR

TAG = "Open Inference Protocol v2"
ROUTE = "/v2/models/{model}/infer"
# Parameters of Triton's other extensions: they would change the answer, so they cannot be ignored.
NOT_OFFERED = {"classification", "shared_memory_region", "sequence_id", "priority", "timeout"}

_LENGTH = HEADER_LENGTH.lower().encode()
_BINARY = (b"content-type", b"application/octet-stream")

router = APIRouter(tags=[TAG])

Extensions = dict[str, msgspec.Raw] | None  # parameters of the protocol's extensions, each in JSON


class _Output(msgspec.Struct, gc=False):
    name: str
    parameters: Extensions = None


class _Request(msgspec.Struct, gc=False):
    """The head of a request; what else it holds is skipped."""

    inputs: tuple[TensorHead]
    id: RequestId = None
    outputs: list[_Output] | None = None
    parameters: Extensions = None


_REQUEST = msgspec.json.Decoder(_Request)
_SHORT = 1024  # bytes of JSON that are remembered


def match(parts: Sequence[str]) -> Route | None:
    """Returns what a path, split at its slashes, asks."""
    match parts:
        case ["", "v2", "models", model, "infer"]:
            return ROUTE, model, None
        case ["", "v2", "models", model, "versions", version, "infer"]:
            return ROUTE, model, version
    return None


def read(headers: Mapping[bytes, bytes], body: Body, card: Card, most_json: int) -> Asked:
    """Reads a request.

    A header length of 0 means that the body is one row's bytes and nothing else, and that the outputs are
    binary (the binary extension's raw request).
    """
    given = headers.get(_LENGTH)
    if given is not None and not (given.isdigit() and len(given) <= 12):
        raise Malformed(f"{HEADER_LENGTH} must be a number of bytes, not {given[:20].decode('latin-1')!r}")
    length = None if given is None else int(given)
    if length == 0:
        return Asked(_raw(body, card), None, (None, [(name, True) for name in _disclosed(card)]))
    if length is None:
        content = read_json(body, most_json)
    else:
        expect_short(length, most_json)
        content = body.start(length)
        if len(content) < length:
            raise Malformed(f"{HEADER_LENGTH} is {length}, but the body has {len(content)} bytes")
    promised = _promised if len(content) <= _SHORT else _promised.__wrapped__
    name, head, wanted = promised(content, card)
    if length is not None:
        content = body.read(length + (head.size or 0))
    return Asked(head.values(content, len(content) if length is None else length), name, (name, wanted))


@lru_cache(1024)  # a client sends the same JSON again and again, and other raw bytes behind it
def _promised(content: bytes, card: Card) -> tuple[RequestId, TensorHead, list[tuple[str, bool]]]:
    """Returns the id of a request, what its JSON says of the rows, and the outputs that it asks for."""
    request = decode(_REQUEST, content, "the request")
    (head,) = request.inputs
    if head.name != card.input_name:
        raise Malformed(f'expected the one input "{card.input_name}", not {head.name[:64]}')
    expect_rows(head.shape, head.datatype, card)
    if head.size is None:
        expect_numbers(bytes(head.data), card)
    elif card.dtype == "BYTES":
        expect_short_texts(head.size)
    return request.id, head, _wanted(request, card)


def write(answer: Answer, card: Card, options: tuple[str | None, list[tuple[str, bool]]]) -> tuple[Headers, bytes]:
    """Returns headers and body of an answer, with the outputs that were asked for."""
    name, wanted = options
    fields = {"model_name": card.model, "model_version": card.version}
    if name is not None:
        fields["id"] = name
    body, head = pack("outputs", [_tensor(answer, card, output, binary) for output, binary in wanted], fields)
    return ([JSON] if head is None else [_BINARY, (_LENGTH, b"%d" % head)]), body


def _raw(body: Body, card: Card) -> Array:
    """Reads one row's bytes, or one text's UTF-8."""
    if card.dtype == "BYTES":
        try:
            return as_texts([body.read(4 * MOST_CHARACTERS).decode()])
        except UnicodeDecodeError as error:
            raise Malformed(f"the text is not UTF-8: {error.reason}") from None
    size = row_size(card)
    row = body.start(size + 1)
    if len(row) != size:
        raise Malformed(
            f"{len(body)} bytes without JSON; one row, {card.input_shape} of {card.dtype}, takes {size}"
        )
    return np.frombuffer(body.read(size), DATATYPES[card.dtype]).reshape(1, *card.input_shape)


def _disclosed(card: Card) -> list[str]:
    if card.embedding:
        return ["embedding"]
    return ["labels"] + ["probabilities"] * card.tells_probs + ["leaves"] * bool(card.trees)


def _wanted(request: _Request, card: Card) -> list[tuple[str, bool]]:
    """Returns which outputs a request asks for, and whether in binary; by default all that are disclosed."""
    disclosed = _disclosed(card)
    everywhere = _flag(request.parameters, "binary_data_output", "the request", default=False)
    if not request.outputs:
        return [(name, everywhere) for name in disclosed]
    wanted: dict[str, bool] = {}
    for name, parameters in ((output.name, output.parameters) for output in request.outputs):
        if name not in disclosed:
            raise Malformed(
                f"no output {name[:64]!r} is disclosed by this model; disclosed: {', '.join(disclosed)}"
            )
        if name in wanted:
            raise Malformed(f"output {name!r} is asked for twice")
        wanted[name] = _flag(parameters, "binary_data", f"output {name!r}", default=everywhere)
    return list(wanted.items())


def _flag(parameters: Extensions, name: str, what: str, *, default: bool) -> bool:
    """Returns whether a parameter is true; refuses parameters of extensions that are not offered."""
    for refused in NOT_OFFERED & (parameters or {}).keys():
        raise Malformed(f"{what}: {refused!r} is not offered; of the protocol's extensions, binary_tensor_data is")
    return default if not parameters or name not in parameters else bytes(parameters[name]) == b"true"


def _tensor(answer: Answer, card: Card, name: str, binary: bool) -> Tensor:
    if name == "embedding":
        assert answer.embeddings is not None
        return Tensor(name, np.ascontiguousarray(answer.embeddings), binary)
    if name == "leaves":
        withheld = np.full((len(answer), card.trees), -1, np.int64)  # a reaction may change any answer
        return Tensor(name, withheld if answer.leaves is None else np.ascontiguousarray(answer.leaves), binary)
    if name == "labels" or answer.probs is None:
        return Tensor("labels", answer.labels, binary)
    return Tensor("probabilities", np.ascontiguousarray(answer.probs, DATATYPES[_told(card)]), binary)


def _told(card: Card) -> str:
    """Returns the datatype of probabilities."""
    return "FP64" if card.dtype == "FP64" else "FP32"


_RAW = {"application/octet-stream": {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}}
_LENGTH_OF_JSON = {
    "description": "Length of the JSON part in bytes; raw bytes of tensors follow it.",
    "schema": {"type": "integer", "minimum": 0},
}
operations: Sequence[Operation] = [
    Operation(
        path,
        TAG,
        name,
        "Answers about rows, in JSON or binary.",
        InferRequest,
        InferResponse,
        request={
            "description": f"JSON, or JSON with raw bytes behind it and its length in {HEADER_LENGTH}. "
            "A length of 0 means one row's bytes alone. gzip and deflate are accepted.",
            "content": _RAW,
        },
        answer={
            "description": "The answer about all rows",
            "content": _RAW,
            "headers": {HEADER_LENGTH: {**_LENGTH_OF_JSON, "example": 151}},
        },
        parameters=({"in": "header", "name": HEADER_LENGTH, "required": False, **_LENGTH_OF_JSON},),
    )
    for path, name in ((ROUTE, "Infer"), ("/v2/models/{model}/versions/{version}/infer", "Version Infer"))
]


@router.get("/v2", openapi_extra=OPEN)
@router.get("/v2/", include_in_schema=False)
async def server_metadata(request: Request) -> ServerMetadata:
    """Returns the server's name, version and extensions."""
    return ServerMetadata(name="mlaas-range", version=request.app.version, extensions=["binary_tensor_data"])


@router.get("/v2/health/live", openapi_extra=OPEN)
async def live() -> ServerLive:
    """Returns whether the server is alive."""
    return ServerLive(live=True)


@router.get("/v2/health/ready", openapi_extra=OPEN)
async def ready(request: Request) -> ServerReady:
    """Returns whether victims, store and workers are ready."""
    await services.of(request).check()
    return ServerReady(ready=True)


@router.get("/v2/models/{model}", responses=NAMED)
async def model_metadata(request: Request, model: str) -> ModelMetadata:
    """Returns a model's inputs and outputs, as the account sees them."""
    return _described(await _deployed(request, model))


@router.get("/v2/models/{model}/versions/{version}", responses=NAMED)
async def version_metadata(request: Request, model: str, version: str) -> ModelMetadata:
    """Returns the inputs and outputs of a model's version."""
    return _described(await _deployed(request, model, version))


@router.get("/v2/models/{model}/ready", responses=NAMED)
async def model_ready(request: Request, model: str) -> ModelReady:
    """Returns whether a model is ready."""
    return ModelReady(name=(await _deployed(request, model)).card.model, ready=True)


@router.get("/v2/models/{model}/versions/{version}/ready", responses=NAMED)
async def version_ready(request: Request, model: str, version: str) -> ModelReady:
    """Returns whether a model's version is ready."""
    return ModelReady(name=(await _deployed(request, model, version)).card.model, ready=True)


async def _deployed(request: Request, model: str, version: str | None = None) -> Deployed:
    service = services.of(request)
    caller = await service.enter(request.headers.get("Authorization"))
    return service.deployed(caller.account, model, version)


def _described(deployed: Deployed) -> ModelMetadata:
    card = deployed.card
    outputs = [TensorMetadata(name="labels", datatype="INT64", shape=[-1])]
    if card.embedding:
        outputs = [TensorMetadata(name="embedding", datatype="FP32", shape=[-1, card.embedding])]
    elif card.tells_probs:
        outputs.append(TensorMetadata(name="probabilities", datatype=_told(card), shape=[-1, card.classes]))
    if card.trees:
        outputs.append(TensorMetadata(name="leaves", datatype="INT64", shape=[-1, card.trees]))
    return ModelMetadata(
        name=card.model,
        versions=[card.version],
        platform=deployed.platform,
        inputs=[TensorMetadata(name=card.input_name, datatype=card.dtype, shape=[-1, *card.input_shape])],
        outputs=outputs,
        parameters={
            "classes": list(card.class_names),
            **{name: getattr(card, name) for name in ("low", "high", "max_rows", "missing")},
            **{name: getattr(card, name) for name in BLUR if getattr(card, name) is not None},
            "features": [asdict(feature) for feature in card.features],
        },
    )
