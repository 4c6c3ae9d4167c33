"""The Open Inference Protocol v2 (KServe), with the binary tensor data extension."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from server import range as served
from server.pipeline import Deployed
from server.range import receipt
from server.rows import read_body, read_request, request_id
from wire import Answer, Array, Card, Malformed
from wire.tensors import HEADER_LENGTH, Tensor, pack

router = APIRouter(tags=["Open Inference Protocol v2"])

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/problem+json": {}}}
    for status, text in {
        400: "The request is malformed",
        401: "No key, or one that is not known",
        402: "Money spent",
        403: "Refused for good",
        404: "No such model",
        408: "The body did not arrive in time",
        413: "Too many rows, or too large a body",
        415: "An encoding that is not offered",
        429: "A limit that refills; see Retry-After",
        503: "Not ready",
    }.items()
}

_EXAMPLE = {
    "id": "42",
    "inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [0.1, 0.2, 0.3, 0.4]}],
    "outputs": [{"name": "labels"}],
}
_BODY = {"requestBody": {"required": True, "content": {"application/json": {"example": _EXAMPLE}}}}


@router.get("/v2")
async def server_metadata() -> dict[str, Any]:
    """Tells the server's name, version and extensions."""
    return {"name": "mlaas-range", "version": "0.1.0", "extensions": ["binary_tensor_data"]}


@router.get("/v2/health/live")
async def live() -> dict[str, bool]:
    """Tells that the server lives."""
    return {"live": True}


@router.get("/v2/health/ready")
async def ready() -> dict[str, bool]:
    """Tells that every victim is loaded: the server does not come up before."""
    return {"ready": True}


@router.get("/v2/models/{model}", responses=REFUSALS)
@router.get("/v2/models/{model}/versions/{version}", responses=REFUSALS)
async def model_metadata(request: Request, model: str, version: str | None = None) -> dict[str, Any]:
    """Tells a model's inputs and outputs, as the account meets it."""
    here = served.of(request)
    card = here.model(await here.enter(request.headers.get("Authorization")), model, version).card
    outputs = [{"name": "labels", "datatype": "INT64", "shape": [-1]}]
    if card.tells_probs:
        outputs.append({"name": "probabilities", "datatype": "FP32", "shape": [-1, card.classes]})
    return {
        "name": card.model,
        "versions": [card.version],
        "platform": "pytorch",
        "inputs": [{"name": card.input_name, "datatype": card.dtype, "shape": [-1, *card.input_shape]}],
        "outputs": outputs,
        "parameters": {
            "classes": list(card.class_names),
            "low": card.low,
            "high": card.high,
            "max_rows": card.max_rows,
            "missing": card.missing,
        },
    }


@router.get("/v2/models/{model}/ready", responses=REFUSALS)
@router.get("/v2/models/{model}/versions/{version}/ready", responses=REFUSALS)
async def model_ready(request: Request, model: str, version: str | None = None) -> dict[str, Any]:
    """Tells that a model is ready."""
    here = served.of(request)
    here.model(await here.enter(request.headers.get("Authorization")), model, version)
    return {"name": model, "ready": True}


@router.post("/v2/models/{model}/infer", responses=REFUSALS, openapi_extra=_BODY)
@router.post("/v2/models/{model}/versions/{version}/infer", responses=REFUSALS, openapi_extra=_BODY)
async def infer(request: Request, model: str, version: str | None = None) -> Response:
    """Answers about rows, in JSON or binary."""
    here = served.of(request)
    authorization = request.headers.get("Authorization")
    await here.admit(authorization)
    body = await read_body(request, here.settings.max_body, here.settings.body_seconds)

    def read(deployed: Deployed) -> tuple[Array, str | None, tuple[dict[str, Any], list[tuple[str, bool]]]]:
        message, x = read_request(request, body, deployed.card)
        named = receipt(model, request_id(message), body)
        return x, named, (message, _wanted(message, deployed.card))

    answer, deployed, (message, wanted) = await here.ask(authorization, model, version, read)
    fields = {"model_name": model, "model_version": deployed.card.version}
    if message.get("id") is not None:
        fields["id"] = message["id"]
    content, head = pack("outputs", [_tensor(answer, name, binary) for name, binary in wanted], fields)
    if head is None:
        return Response(content, media_type="application/json")
    return Response(content, headers={HEADER_LENGTH: str(head)}, media_type="application/octet-stream")


def _wanted(message: dict[str, Any], card: Card) -> list[tuple[str, bool]]:
    """Reads which outputs a request asks for, and which of them in binary; by default all that are disclosed."""
    disclosed = ["labels", "probabilities"] if card.tells_probs else ["labels"]
    everywhere = _parameters(message, "the request").get("binary_data_output", False) is True
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
        for extension in ("classification", "shared_memory_region"):
            if extension in parameters:
                raise Malformed(f"output {name!r}: the extension {extension!r} is not offered")
        if name in (known for known, _ in wanted):
            raise Malformed(f"output {name!r} is asked for twice")
        wanted.append((name, parameters.get("binary_data", everywhere) is True))
    return wanted


def _parameters(holder: dict[str, Any], what: str) -> dict[str, Any]:
    parameters = holder.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise Malformed(f'"parameters" of {what} must be an object')
    return parameters


def _tensor(answer: Answer, name: str, binary: bool) -> Tensor:
    if name == "labels" or answer.probs is None:
        return Tensor("labels", answer.labels, binary)
    return Tensor("probabilities", np.ascontiguousarray(answer.probs, np.float32), binary)
