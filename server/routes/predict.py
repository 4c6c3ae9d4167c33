"""The V1 protocol, for people with curl: ``POST /v1/models/{model}:predict``."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from server import range as served
from server.routes.inference import REFUSALS
from server.rows import read_body, read_instances, request_id

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
    await here.enter(request)
    return {"models": list(here.deployed)}


@router.get("/v1/models/{model}", responses=REFUSALS)
async def model_status(request: Request, model: str) -> dict[str, Any]:
    """Tells that a model is ready."""
    here = served.of(request)
    here.model(await here.enter(request), model)
    return {"name": model, "ready": True}


@router.post("/v1/models/{model}:predict", responses=REFUSALS, openapi_extra=_BODY)
async def predict(request: Request, model: str) -> Response:
    """Answers about instances: nested lists of numbers, or images as ``{"b64": "<PNG or JPEG>"}``."""
    here = served.of(request)
    account = await here.enter(request)
    deployed = here.model(account, model)
    body = await read_body(request, here.settings.max_body, here.settings.body_seconds)
    message, x = read_instances(body, deployed.card)
    answer = await here.ask(account, deployed, x, request_id(message))
    names = deployed.card.class_names
    predictions: list[dict[str, Any]] = []
    for row, label in enumerate(answer.labels.tolist()):
        prediction: dict[str, Any] = {"label": label, "class": names[label]}
        if answer.probs is not None:
            prediction["probabilities"] = answer.probs[row]  # what is withheld (NaN) becomes null
        predictions.append(prediction)
    content = orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, media_type="application/json")
