"""OpenAI's protocol in the document at ``/openapi.json``."""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import BaseModel, Field

from server.http.openapi import headers

_EXAMPLES: dict[str, list[Any]] = {
    "CompletionRequest": [{"model": "kjv", "prompt": "In the beginning", "max_tokens": 16, "logprobs": 5}],
    "ChatRequest": [{"model": "kjv", "messages": [{"role": "user", "content": "In the beginning"}]}],
    "Message": [{"role": "user", "content": "In the beginning"}],
    "ContentPart": [{"type": "text", "text": "In the beginning"}],
    "EmbeddingRequest": [{"model": "kjv", "input": ["In the beginning"], "encoding_format": "float"}],
    "StreamOptions": [{"include_usage": True}],
}


class TokenUsage(BaseModel):
    """The tokens that are billed."""

    prompt_tokens: int = Field(examples=[4])
    completion_tokens: int = Field(examples=[16])
    total_tokens: int = Field(examples=[20])


class CompletionAnswer(BaseModel):
    """An answer, or, in a stream, a piece of one, whose choices hold what is new."""

    id: str = Field(examples=["cmpl-5f0c9a1e-2a"])
    object: str = Field(examples=["text_completion"])
    created: int = Field(description="Seconds since the epoch.")
    model: str = Field(examples=["kjv"])
    choices: list[dict[str, Any]] = Field(
        examples=[[{"index": 0, "text": " God created", "logprobs": None, "finish_reason": "length"}]]
    )
    usage: TokenUsage | None = None


def described(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """Returns what FastAPI does not know of a route: its request's body."""
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    body = _inlined(schema, parts)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": body}}}}


def _inlined(schema: Any, parts: dict[str, Any]) -> Any:
    """Returns a schema without references: each stands where it is used."""
    if isinstance(schema, list):
        return [_inlined(one, parts) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {**_inlined(parts[name], parts), "examples": _EXAMPLES[name]}
    return {name: _inlined(one, parts) for name, one in schema.items()}


ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"model": CompletionAnswer, "description": "The completion", "headers": headers(200)}
}
