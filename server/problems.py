"""Errors as ``application/problem+json`` (RFC 9457) that also carry the inference protocol's string ``error``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from wire import BadInput, Malformed, Refused


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Makes the response that tells what was wrong."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "error": detail,
    }
    return Response(orjson.dumps(body), status, dict(headers or {}), media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Makes every error of the application such a response."""

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        headers = {}
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if error.retry_after is not None:
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
        if error.policy is not None:
            name = error.policy.partition(";")[0]
            wait = f";t={math.ceil(error.retry_after)}" if error.retry_after is not None else ""
            headers["RateLimit-Policy"] = error.policy
            headers["RateLimit"] = f"{name};r={error.left or 0}{wait}"
        return problem(error.status, str(error), headers)

    @app.exception_handler(Malformed)
    @app.exception_handler(BadInput)
    async def malformed(request: Request, error: Exception) -> Response:
        return problem(400, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem(422, "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()))

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return problem(400, "the client left before its body arrived")

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return problem(500, "the server failed; the request was not billed")
