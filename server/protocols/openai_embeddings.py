"""OpenAI's embeddings, ``POST /v1/embeddings``: of encoders of texts, and of language models that give them."""

from __future__ import annotations

import base64
from typing import Any, Literal

import msgspec
import numpy as np
import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from defenses.store import VersionConflict
from server.deployment import service as services
from server.deployment.language_stack import SpokenTo
from server.deployment.service import Caller, Service
from server.http.intake import Held, Intake
from server.http.openapi import METERED, headers
from server.protocols.openai_document import described
from server.protocols.openai_encoders import embedded, encoder, texts_of
from server.protocols.openai_headers import limit_headers
from server.protocols.openai_messages import decoded, prompts_of, request_key
from wire import Array, Malformed, Refused
from wire.ratelimit import Limits

router = APIRouter(tags=["OpenAI protocol"], responses=METERED)


class EmbeddingRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A request of ``/v1/embeddings``."""

    model: str
    input: str | list[str | int | list[int]]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    user: str | None = None


class Embedding(BaseModel):
    """The embedding of one text."""

    object: Literal["embedding"] = "embedding"
    index: int = Field(examples=[0])
    embedding: list[float] | str = Field(description="Numbers, or float32 in base64.", examples=[[0.6, -0.8]])


class EmbeddingAnswer(BaseModel):
    """The embeddings of all texts, and the tokens that are billed."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str = Field(examples=["kjv"])
    usage: dict[str, int] = Field(examples=[{"prompt_tokens": 4, "total_tokens": 4}])


ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": EmbeddingAnswer, "description": "The embeddings", "headers": headers(200)}
}


@router.post("/v1/embeddings", responses=ANSWERS, openapi_extra=described(EmbeddingRequest))
async def embeddings(request: Request) -> Response:
    """Embeds texts, given as text or as tokens."""
    service, record = services.of(request), request.scope["record"]
    intake: Intake = request.app.state.intake
    authorization = request.headers.get("Authorization")
    caller = await service.authenticate(authorization)  # before the body is read
    record.account = caller.account.name
    with intake.admit(caller.account.name) as held:
        body = await request.body()
        held.more(len(body))
        key = request_key("embeddings", request.headers.get("Idempotency-Key"), body)
        asked = held.read(decoded, body, EmbeddingRequest)
        record.model = asked.model if asked.model in (*service.models, *service.languages.names) else None
        while True:
            try:
                found, tokens, limits = await _told(service, caller, asked, held, key)
                break
            except VersionConflict:
                caller = await service.enter(authorization)
    data = [
        {"object": "embedding", "index": index, "embedding": _written(one, asked.encoding_format)}
        for index, one in enumerate(found)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    answer = {"object": "list", "data": data, "model": asked.model, "usage": usage}
    content = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(content, headers=limit_headers(limits), media_type="application/json")


async def _told(
    service: Service, caller: Caller, asked: EmbeddingRequest, held: Held, key: str | None
) -> tuple[Array, int, Limits]:
    """Returns the embeddings, ``(n, d)``, their tokens, and the state in which they left the limits."""
    deployed = encoder(service, caller, asked.model)
    if deployed is not None:
        x = held.read(texts_of, asked.input, asked.dimensions, deployed)
        return await embedded(service, caller, deployed, x, key)
    spoken = service.languages.spoken_to(caller.account, asked.model)
    texts = held.read(_checked, asked, spoken)
    found, limits = await service.languages.embed(
        spoken, caller.account.name, texts, service.clock(), key, caller.position
    )
    return found, sum(map(len, texts)), limits


def _checked(asked: EmbeddingRequest, spoken: SpokenTo) -> list[list[int]]:
    if not spoken.offer.embeddings:
        raise Refused(f"the model {spoken.name} does not embed texts", status=404)
    gpt = spoken.model.gpt
    if asked.dimensions not in (None, gpt.width):
        raise Malformed(f"dimensions = {asked.dimensions} is not offered; expected {gpt.width}")
    texts = prompts_of(asked.input, spoken.model, "input")
    if any(not 0 < len(ids) < gpt.context for ids in texts):
        raise Malformed(f"input: each text must have from 1 to {gpt.context - 1} tokens")
    if sum(map(len, texts)) > spoken.most:
        raise Refused(f"{sum(map(len, texts))} tokens in one request; at most {spoken.most} are read", status=413)
    return texts


def _written(embedding: Array, form: str | None) -> Any:
    if form == "base64":
        return base64.b64encode(embedding.astype(np.dtype("<f4")).tobytes()).decode()
    return embedding
