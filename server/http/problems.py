"""Errors as ``application/problem+json`` (RFC 9457) that also carry the inference protocol's string ``error``."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from wire import BadInput, Malformed, Refused
from wire.ratelimit import policy_name, refusal_headers

PROBLEM = "application/problem+json"
_REASONS = {
    401: "key",
    404: "model",
    408: "slow",
    413: "size",
    415: "encoding",
    421: "host",
    429: "busy",
    503: "unready",
}


OPENAI = ("/v1/completions", "/v1/chat/completions", "/v1/embeddings")
"""Paths whose clients expect an error in OpenAI's form."""


def response(error: Exception, request: str, path: str = "") -> Response:
    """Returns the response to an error.

    Args:
        error: The error.
        request: The request's id.
        path: The request's path.
    """
    found = _response(error, request)
    if path not in OPENAI:
        return found
    headers = {name: value for name, value in found.headers.items() if not name.startswith("content-")}
    return Response(orjson.dumps(openai(error, request)), found.status_code, headers, "application/json")


def openai(error: Exception, request: str) -> dict[str, Any]:
    """Returns an error in OpenAI's form."""
    found = _response(error, request)
    return openai_body(found.status_code, orjson.loads(bytes(found.body))["detail"], request)


def openai_body(status: int, detail: str, request: str) -> dict[str, Any]:
    """Returns the body of such an error."""
    kind, code = _OPENAI.get(status, ("invalid_request_error", None))
    return {"error": {"message": detail, "type": kind, "param": None, "code": code, "request_id": request}}


_OPENAI = {
    401: ("authentication_error", "invalid_api_key"),
    403: ("permission_error", "insufficient_quota"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", "unavailable"),
}


def _response(error: Exception, request: str) -> Response:
    match error:
        case Refused():
            authenticate = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
            return _problem(error.status, str(error), request, authenticate | refusal_headers(error))
        case Malformed() | BadInput():
            return _problem(400, str(error), request)
        case ClientDisconnect():
            return _problem(400, "the client left before its body arrived", request)
        case RequestValidationError():
            faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            return _problem(400, "; ".join(faults), request)
        case HTTPException():
            return _problem(error.status_code, str(error.detail), request, error.headers)
    return _problem(500, "the server failed; the request was not billed", request)


def body(status: int, detail: str, request: str) -> dict[str, Any]:
    """Returns the body of such a response."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "error": detail,
        "request_id": request,
    }


def reason(error: Exception) -> str:
    """Returns an error's name in metrics and logs: the limit that refused, or a word for its kind."""
    if isinstance(error, Refused):
        return policy_name(error) or _REASONS.get(error.status, "policy")
    malformed = (Malformed, BadInput, ClientDisconnect, RequestValidationError, HTTPException)
    return "malformed" if isinstance(error, malformed) else "failure"


_EXPECTED = (Refused, Malformed, BadInput, ClientDisconnect, RequestValidationError, HTTPException)


def install(app: FastAPI) -> None:
    """Makes every error of the application such a response."""

    async def respond(request: Request, error: Exception) -> Response:
        record = request.scope["record"]
        record.reason = reason(error)
        return response(error, record.id, request.url.path)

    for kind in (*_EXPECTED, Exception):
        app.add_exception_handler(kind, respond)


def _problem(status: int, detail: str, request: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(body(status, detail, request)), status, dict(headers or {}), media_type=PROBLEM)
