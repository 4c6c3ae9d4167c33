"""The Open Inference Protocol v2 (KServe), with the binary tensor data extension."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from server.deployment import service as served
from server.deployment.stack import Deployed
from server.http.openapi import METERED, NAMED, OPEN, headers
from wire.tensors import DATATYPES, HEADER_LENGTH

router = APIRouter(tags=["Open Inference Protocol v2"])

Datatype = Annotated[str, Field(json_schema_extra={"enum": list(DATATYPES)})]
Parameters = dict[str, Any]
Length = Annotated[
    int | None, Header(alias=HEADER_LENGTH, ge=0, description="Length of the JSON part where raw bytes follow it.")
]


class ServerMetadata(BaseModel):
    """What the server is."""

    name: str = Field(examples=["mlaas-range"])
    version: str = Field(examples=["0.1.0"])
    extensions: list[str] = Field(examples=[["binary_tensor_data"]])


class ServerLive(BaseModel):
    """Whether the server lives."""

    live: bool = Field(examples=[True])


class ServerReady(BaseModel):
    """Whether the server is ready."""

    ready: bool = Field(examples=[True])


class ModelReady(BaseModel):
    """Whether a model is ready."""

    name: str = Field(examples=["victim"])
    ready: bool = Field(examples=[True])


class TensorMetadata(BaseModel):
    """A tensor that a model takes or tells; -1 stands for the number of rows."""

    name: str = Field(examples=["input"])
    datatype: Datatype = Field(examples=["FP32"])
    shape: list[int] = Field(examples=[[-1, 1, 28, 28]])


class ModelMetadata(BaseModel):
    """A model, as the account meets it."""

    name: str = Field(examples=["victim"])
    versions: list[str] = Field(examples=[["1"]])
    platform: str = Field(examples=["onnxruntime_float32"])
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: Parameters = Field(
        description="The classes' names, the range of a feature, and the most rows in one request.",
        examples=[
            {"classes": ["T-shirt", "Trouser"], "low": 0.0, "high": 1.0, "max_rows": 1024, "missing": False}
        ],
    )


class RequestInput(BaseModel):
    """Rows, either as ``data`` or, with the parameter ``binary_data_size``, as raw bytes behind the JSON."""

    name: str = Field(examples=["input"])
    shape: list[Annotated[int, Field(ge=0)]] = Field(examples=[[1, 4]])
    datatype: Datatype = Field(examples=["FP32"])
    parameters: Parameters | None = Field(None, examples=[{}])
    data: list[Any] | None = Field(
        None,
        description="Values in row-major order, flat or nested; `null` is a missing one.",
        examples=[[0.1, 0.2, 0.3, 0.4]],
    )


class RequestOutput(BaseModel):
    """An output to be told; with the parameter ``binary_data`` as raw bytes behind the JSON."""

    name: Literal["labels", "probabilities"] = Field(examples=["labels"])
    parameters: Parameters | None = Field(None, examples=[{"binary_data": False}])


class InferRequest(BaseModel):
    """What is asked of a model."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "42",
                    "inputs": [
                        {"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [0.1, 0.2, 0.3, 0.4]}
                    ],
                    "outputs": [{"name": "labels"}],
                }
            ]
        }
    )

    id: str | None = Field(
        None, max_length=256, description="Names the request, so that a retry within ten minutes is billed once."
    )
    parameters: Parameters | None = Field(
        None, description="`binary_data_output` asks for raw bytes of all outputs."
    )
    inputs: list[RequestInput] = Field(min_length=1)
    outputs: list[RequestOutput] | None = Field(None, description="All that the model tells, if left out.")


class ResponseOutput(BaseModel):
    """What is told of all rows."""

    name: str = Field(examples=["labels"])
    shape: list[int] = Field(examples=[[1]])
    datatype: Datatype = Field(examples=["INT64"])
    parameters: Parameters | None = Field(None, description="`binary_data_size` of one that is told as raw bytes.")
    data: list[float | int | None] | None = Field(None, description="`null` is withheld.", examples=[[2]])


class InferResponse(BaseModel):
    """What is answered."""

    model_name: str = Field(examples=["victim"])
    model_version: str = Field(examples=["1"])
    id: str | None = Field(None, description="That of the request, if it had one.", examples=["42"])
    outputs: list[ResponseOutput]


_BINARY = {"schema": {"type": "string", "contentMediaType": "application/octet-stream"}}
_LENGTH = {
    "description": "Length of the JSON part in bytes; raw bytes of tensors follow it.",
    "schema": {"type": "integer"},
    "example": 151,
}
_ASKED = {
    "requestBody": {
        "description": f"JSON, or JSON with raw bytes behind it and its length in {HEADER_LENGTH}. A length of 0 "
        "means one row's bytes alone. gzip and deflate are taken.",
        "content": {"application/octet-stream": _BINARY},
    }
}
_ANSWERED: dict[int | str, dict[str, Any]] = {
    200: {
        "model": InferResponse,
        "description": "The answer about all rows",
        "content": {"application/octet-stream": _BINARY},
        "headers": {HEADER_LENGTH: _LENGTH, **headers(200)},
    }
}


@router.get("/v2", openapi_extra=OPEN)
@router.get("/v2/", include_in_schema=False)
async def server_metadata(request: Request) -> ServerMetadata:
    """Tells the server's name, version and extensions."""
    return ServerMetadata(name="mlaas-range", version=request.app.version, extensions=["binary_tensor_data"])


@router.get("/v2/health/live", openapi_extra=OPEN)
async def live() -> ServerLive:
    """Tells that the server lives."""
    return ServerLive(live=True)


@router.get("/v2/health/ready", openapi_extra=OPEN)
async def ready(request: Request) -> ServerReady:
    """Tells that victims, store and workers are ready: without its victims the server does not come up."""
    await served.of(request).check()
    return ServerReady(ready=True)


@router.get("/v2/models/{model}", responses=NAMED)
async def model_metadata(request: Request, model: str) -> ModelMetadata:
    """Tells a model's inputs and outputs, as the account meets it."""
    return _described(await _deployed(request, model))


@router.get("/v2/models/{model}/versions/{version}", responses=NAMED)
async def version_metadata(request: Request, model: str, version: str) -> ModelMetadata:
    """Tells the inputs and outputs of a model's version."""
    return _described(await _deployed(request, model, version))


@router.get("/v2/models/{model}/ready", responses=NAMED)
async def model_ready(request: Request, model: str) -> ModelReady:
    """Tells that a model is ready."""
    return ModelReady(name=(await _deployed(request, model)).card.model, ready=True)


@router.get("/v2/models/{model}/versions/{version}/ready", responses=NAMED)
async def version_ready(request: Request, model: str, version: str) -> ModelReady:
    """Tells that a model's version is ready."""
    return ModelReady(name=(await _deployed(request, model, version)).card.model, ready=True)


# What follows is documentation: server.protocols.hot answers these routes.


@router.post("/v2/models/{model}/infer", responses=METERED | _ANSWERED, openapi_extra=_ASKED, response_model=None)
async def infer(model: str, asked: InferRequest, length: Length = None) -> Response:
    """Answers about rows, in JSON or binary."""
    raise HTTPException(404)  # a path that server.protocols.hot does not take, though the framework does


@router.post(
    "/v2/models/{model}/versions/{version}/infer",
    responses=METERED | _ANSWERED,
    openapi_extra=_ASKED,
    response_model=None,
)
async def version_infer(model: str, version: str, asked: InferRequest, length: Length = None) -> Response:
    """Answers about rows by a model's version, in JSON or binary."""
    raise HTTPException(404)  # a path that server.protocols.hot does not take, though the framework does


async def _deployed(request: Request, model: str, version: str | None = None) -> Deployed:
    here = served.of(request)
    return here.model(await here.enter(request.headers.get("Authorization")), model, version)


def _described(deployed: Deployed) -> ModelMetadata:
    card = deployed.card
    outputs = [TensorMetadata(name="labels", datatype="INT64", shape=[-1])]
    if card.tells_probs:
        outputs.append(TensorMetadata(name="probabilities", datatype="FP32", shape=[-1, card.classes]))
    return ModelMetadata(
        name=card.model,
        versions=[card.version],
        platform=deployed.platform,
        inputs=[TensorMetadata(name=card.input_name, datatype=card.dtype, shape=[-1, *card.input_shape])],
        outputs=outputs,
        parameters={
            "classes": list(card.class_names),
            "low": card.low,
            "high": card.high,
            "max_rows": card.max_rows,
            "missing": card.missing,
            "features": [asdict(feature) for feature in card.features],
        },
    )
