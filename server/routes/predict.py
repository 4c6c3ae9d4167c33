"""The V1 protocol, for people with curl: ``POST /v1/models/{model}:predict``."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from server import range as served
from server.pipeline import Deployed
from server.range import receipt
from server.routes.inference import REFUSALS
from server.rows import read_body, read_instances, request_id
from wire import Array

router = APIRouter(tags=["V1 protocol"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"example": {"instances": [[0.1, 0.2, 0.3, 0.4]]}}},
    }
}


@router.get("/v1/models", responses=REFUSALS)
async def models(request: Request) -> dict[str, list[str]]:
    """Lists the models."""
    here = served.of(request)
    await here.enter(request.headers.get("Authorization"))
    return {"models": here.models}


@router.get("/v1/models/{model}", responses=REFUSALS)
async def model_status(request: Request, model: str) -> dict[str, Any]:
    """Tells that a model is ready."""
    here = served.of(request)
    here.model(await here.enter(request.headers.get("Authorization")), model)
    return {"name": model, "ready": True}


@router.post("/v1/models/{model}:predict", responses=REFUSALS, openapi_extra=_BODY)
async def predict(request: Request, model: str) -> Response:
    """Answers about instances: nested lists of numbers, or images as ``{"b64": "<PNG or JPEG>"}``."""
    here = served.of(request)
    authorization = request.headers.get("Authorization")
    await here.admit(authorization)
    body = await read_body(request, here.settings.max_body, here.settings.body_seconds)

    def read(deployed: Deployed) -> tuple[Array, str | None, None]:
        message, x = read_instances(body, deployed.card)
        return x, receipt(model, request_id(message), body), None

    answer, deployed, _ = await here.ask(authorization, model, None, read)
    names = deployed.card.class_names
    predictions: list[dict[str, Any]] = []
    for row, label in enumerate(answer.labels.tolist()):
        prediction: dict[str, Any] = {"label": label, "class": names[label]}
        if answer.probs is not None:
            prediction["probabilities"] = answer.probs[row]  # what is withheld (NaN) becomes null
        predictions.append(prediction)
    content = orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, media_type="application/json")
