"""The document at ``/openapi.json``: FastAPI's part, the protocols' parts, and what all routes have in common."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from server.http.problems import OPENAI, PROBLEM, body, openai_body


class OpenAIFault(BaseModel):
    """An error, in the form that OpenAI's clients expect."""

    message: str = Field(description="What was wrong, and what would be right.")
    type: str = Field(examples=["invalid_request_error"])
    param: str | None = Field(None, examples=[None])
    code: str | None = Field(None, examples=["model_not_found"])
    request_id: str = Field(description="The request's id, as in the header X-Request-Id and in the server's log.")


class OpenAIError(BaseModel):
    """An error in OpenAI's form."""

    error: OpenAIFault


class Problem(BaseModel):
    """An error in the form of RFC 9457, which is also the inference protocol's error object."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(description="The status in words.", examples=["Bad Request"])
    status: int = Field(examples=[400])
    detail: str = Field(description="What was wrong, and what would be right.")
    error: str = Field(description="The same, where the inference protocol's clients look for it.")
    request_id: str = Field(description="The request's id, as in the header X-Request-Id and in the server's log.")


@dataclass(frozen=True)
class Operation:
    """A POST route that answers about rows without FastAPI.

    Attributes:
        path: Its template.
        tag: Name of its protocol.
        name: Its name.
        description: Its purpose.
        asked: Model of a request.
        answered: Model of an answer.
        request: Further members of the request body; ``content`` is merged.
        answer: Further members of the answer; ``content`` and ``headers`` are merged.
        parameters: Parameters beside those of the path.
    """

    path: str
    tag: str
    name: str
    description: str
    asked: type[BaseModel]
    answered: type[BaseModel]
    request: Mapping[str, Any] = field(default_factory=dict)
    answer: Mapping[str, Any] = field(default_factory=dict)
    parameters: tuple[Mapping[str, Any], ...] = ()

    def document(self) -> dict[str, Any]:
        """Returns its entry in the document."""
        path = [
            {"in": "path", "name": name, "required": True, "schema": {"type": "string", "title": name.title()}}
            for name in re.findall(r"{(\w+)}", self.path)
        ]
        return {
            "tags": [self.tag],
            "summary": self.name,
            "description": self.description,
            "operationId": re.sub(r"\W", "_", f"{self.name.lower()}{self.path}_post"),
            "parameters": [*path, *self.parameters],
            "requestBody": _with(self.request, {"required": True}, content=_json(self.asked)),
            "responses": {
                "200": _with(self.answer, {}, content=_json(self.answered), headers=headers(200)),
                **{str(status): refusal for status, refusal in METERED.items()},
            },
        }


def _with(given: Mapping[str, Any], more: Mapping[str, Any], **merged: dict[str, Any]) -> dict[str, Any]:
    return {**given, **more, **{name: {**member, **given.get(name, {})} for name, member in merged.items()}}


def _json(model: type[BaseModel]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


_STATUSES = {
    400: (
        "Malformed, or not what the model takes",
        "rows of shape (1, 4); expected (n, 1, 28, 28) with n from 1 to 64",
    ),
    401: ("No key, or one that is not known", "the key is not known here"),
    403: ("Not for this account", "this needs the key of an account whose plan is an administrator's"),
    404: ("There is no such thing", "no model 'other' here; there are victim"),
    408: ("The body did not arrive in time", "the body did not arrive within 30 seconds"),
    413: ("Too many rows, or too large a body", "65 rows in one request; at most 64 are answered"),
    415: ("An encoding that is not offered", "Content-Encoding br: expected gzip or deflate"),
    429: ("A limit that refills", "asked for 64 rows with 12 left; 52 more in 1 second"),
    500: ("The server failed; nothing was billed", "the server failed; the request was not billed"),
    503: ("Not ready, or closing", "the server is closing; ask again, and another may answer"),
}

_HEADERS = {
    "X-Request-Id": (
        "Names the request in the server's logs; the client's own, if it sent one.",
        "string",
        "f3a1",
    ),
    "WWW-Authenticate": ("What is expected in Authorization.", "string", "Bearer"),
    "Retry-After": ("Seconds after which the same request may pass.", "integer", 2),
    "RateLimit-Policy": (
        "The limits that hold, in rows, or the one that refused (draft-ietf-httpapi-ratelimit-headers-10); "
        "`all-` are those over all models together.",
        "string",
        '"rows";q=100;w=1, "day";q=5000;w=86400',
    ),
    "RateLimit": (
        "Of each, the rows that are left and the seconds until there are more.",
        "string",
        '"rows";r=40;t=1, "day";r=3200;t=7210',
    ),
}
_HEADERS_OF = {
    200: ["RateLimit-Policy", "RateLimit"],
    401: ["WWW-Authenticate"],
    429: ["Retry-After", "RateLimit-Policy", "RateLimit"],
    503: ["Retry-After"],
}


def headers(status: int) -> dict[str, Any]:
    """Returns the documentation of the headers with which a route that limits hold for answers a status."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in _HEADERS_OF.get(status, [])}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the documentation of the answers with which a route refuses, as FastAPI takes it."""
    return {
        status: {
            "description": _STATUSES[status][0],
            "headers": headers(status),
            "content": {
                PROBLEM: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": body(status, _STATUSES[status][1], "5f0c9a1e-2a"),
                }
            },
        }
        for status in statuses
    }


KEYED = refusals(401, 403)
NAMED = KEYED | refusals(404)
METERED = NAMED | refusals(429)
_ANYWHERE = refusals(400, 408, 413, 415, 500, 503)

OPEN: dict[str, Any] = {"security": []}
"""The addition to the documentation of a route that needs no key."""


def install(app: FastAPI, operations: Iterable[Operation]) -> None:
    """Makes the application's document complete.

    Args:
        app: The application.
        operations: The routes that do without FastAPI.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            derived = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
            )
            app.openapi_schema = _completed(derived, list(operations))
        return app.openapi_schema

    @cache  # anyone may ask for it, and FastAPI would take 8 ms to write it each time
    def written() -> bytes:
        return orjson.dumps(document())

    async def read() -> Response:
        return Response(written(), media_type="application/json")

    app.openapi = document  # type: ignore[method-assign]  # the documented way
    app.router.routes[:] = [route for route in app.routes if getattr(route, "path", None) != app.openapi_url]
    app.add_api_route(str(app.openapi_url), read, include_in_schema=False)


def _openai(status: str, refusal: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the documentation of a refusal in OpenAI's form."""
    detail = _STATUSES[int(status)][1]
    example = openai_body(int(status), detail, "5f0c9a1e-2a")
    schema = {"$ref": "#/components/schemas/OpenAIError"}
    return {**refusal, "content": {"application/json": {"schema": schema, "example": example}}}


def _completed(document: dict[str, Any], operations: list[Operation]) -> dict[str, Any]:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for derived in (
        "HTTPValidationError",
        "ValidationError",
    ):  # FastAPI's own errors, in place of which Problem is sent
        schemas.pop(derived, None)
    for operation in operations:
        document["paths"].setdefault(operation.path, {})["post"] = operation.document()
    _, more = models_json_schema(
        [
            *((operation.asked, "validation") for operation in operations),
            *((operation.answered, "serialization") for operation in operations),
        ],
        ref_template="#/components/schemas/{model}",
    )
    schemas |= more["$defs"]
    for form in (OpenAIFault, OpenAIError):
        schemas[form.__name__] = form.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas[form.__name__].pop("$defs", None)
    schemas["Problem"] = Problem.model_json_schema()
    components["schemas"] = dict(sorted(schemas.items()))
    components["headers"] = {
        name: {"description": text, "schema": {"type": kind}, "example": example}
        for name, (text, kind, example) in _HEADERS.items()
    }
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "An account's key, which begins with mlr_."}
    }
    document["security"] = [{"key": []}]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            answers = operation["responses"]
            answers.pop("422", None)
            answers |= {
                str(status): refusal for status, refusal in _ANYWHERE.items() if str(status) not in answers
            }
            if path in OPENAI:
                answers |= {status: _openai(status, told) for status, told in answers.items() if status >= "400"}
            for answer in answers.values():
                answer["headers"] = {
                    **answer.get("headers", {}),
                    "X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"},
                }
            operation["responses"] = dict(sorted(answers.items()))
    return document
