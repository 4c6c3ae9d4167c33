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


def problem(status: int, detail: str, request: str, headers: Mapping[str, str] | None = None) -> Response:
    """Makes the response that tells what was wrong with the request of an id."""
    return Response(orjson.dumps(body(status, detail, request)), status, dict(headers or {}), media_type=PROBLEM)


def body(status: int, detail: str, request: str) -> dict[str, Any]:
    """Returns what such a response says."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "error": detail,
        "request_id": request,
    }


def told(error: Exception, request: str) -> Response:
    """Makes the response that tells what went wrong with the request of an id."""
    match error:
        case Refused():
            return problem(error.status, str(error), request, _refusal(error))
        case Malformed() | BadInput():
            return problem(400, str(error), request)
        case ClientDisconnect():
            return problem(400, "the client left before its body arrived", request)
        case RequestValidationError():
            faults = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            return problem(400, "; ".join(faults), request)
        case HTTPException():
            return problem(error.status_code, str(error.detail), request, error.headers)
    return problem(500, "the server failed; the request was not billed", request)


def reason(error: Exception) -> str:
    """Returns what metrics and logs call an error: the limit that refused, or a word for its kind."""
    if isinstance(error, Refused):
        return policy_name(error) or _REASONS.get(error.status, "policy")
    malformed = (Malformed, BadInput, ClientDisconnect, RequestValidationError, HTTPException)
    return "malformed" if isinstance(error, malformed) else "failure"


_REASONS = {401: "key", 402: "money", 404: "model", 408: "slow", 413: "size", 415: "encoding", 503: "unready"}


def _refusal(error: Refused) -> dict[str, str]:
    authenticate = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    return authenticate | refusal_headers(error)


def install(app: FastAPI) -> None:
    """Makes every error of the application such a response."""

    async def tell(request: Request, error: Exception) -> Response:
        visit = request.scope["visit"]
        visit.reason = reason(error)
        return told(error, visit.id)

    for kind in (Refused, Malformed, BadInput, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, tell)
