"""The V1 protocol, for people with curl: ``POST /v1/models/{model}:predict``."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from server.deployment import service as served
from server.http.openapi import KEYED, METERED, NAMED, OPEN, headers
from server.protocols.open_inference import ModelReady

router = APIRouter(tags=["V1 protocol"])

_PIXEL = (  # a PNG of one
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="
)


class Alive(BaseModel):
    """That the server lives."""

    status: Literal["alive"]


class Models(BaseModel):
    """The models."""

    models: list[str] = Field(examples=[["victim"]])


class PredictRequest(BaseModel):
    """Instances, under either name."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"instances": [[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.5, 1.0]]},
                {"instances": [{"b64": _PIXEL}]},
            ],
            "anyOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
        }
    )

    id: str | None = Field(
        None, max_length=256, description="Names the request, so that a retry within ten minutes is billed once."
    )
    instances: list[Any] | None = Field(
        None, description='Rows: nested lists of numbers, or images as {"b64": "<PNG or JPEG>"}.'
    )
    inputs: list[Any] | None = Field(None, description="The same.")


class Prediction(BaseModel):
    """What is told of one row."""

    model_config = ConfigDict(populate_by_name=True)

    label: int = Field(examples=[7])
    name: str = Field(alias="class", examples=["Sneaker"])
    probabilities: list[float | None] | None = Field(
        None, description="`null` is withheld.", examples=[[0.25, 0.75]]
    )


class PredictResponse(BaseModel):
    """What is answered."""

    predictions: list[Prediction]


_ANSWERED: dict[int | str, dict[str, Any]] = {
    200: {"model": PredictResponse, "description": "The answer about all instances", "headers": headers(200)}
}


@router.get("/", openapi_extra=OPEN)
async def alive() -> Alive:
    """Tells that the server lives, where clients of the V1 protocol ask."""
    return Alive(status="alive")


@router.get("/v1/models", responses=KEYED)
async def models(request: Request) -> Models:
    """Lists the models."""
    here = served.of(request)
    await here.enter(request.headers.get("Authorization"))
    return Models(models=here.models)


@router.get("/v1/models/{model}", responses=NAMED)
async def model_status(request: Request, model: str) -> ModelReady:
    """Tells that a model is ready."""
    here = served.of(request)
    here.model(await here.enter(request.headers.get("Authorization")), model)
    return ModelReady(name=model, ready=True)


@router.post("/v1/models/{model}:predict", responses=METERED | _ANSWERED, response_model=None)
async def predict(model: str, asked: PredictRequest) -> Response:
    """Answers about instances: nested lists of numbers, or images as ``{"b64": "<PNG or JPEG>"}``."""
    raise HTTPException(404)  # documentation, as in server.protocols.open_inference
