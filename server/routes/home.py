"""``GET /``: a page for people, and for clients of the V1 protocol that the server is alive."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel

from server.http.openapi import OPEN

router = APIRouter(tags=["V1 protocol"])

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>MLaaS Range</title>
<style>body { font: 1.1em/1.6 system-ui, sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em }</style>
</head>
<body>
<h1>MLaaS Range</h1>
<p>A prediction API worth attacking.</p>
<p>The routes are documented at <a href="/docs">/docs</a>, and as OpenAPI at
<a href="/openapi.json">/openapi.json</a>.</p>
<p>Questions about models need a key, in the header <code>Authorization: Bearer mlr_...</code>. Ask the server's
operator for one, who creates it with<br><code>python -m server accounts create NAME --plan PLAN</code>.</p>
</body>
</html>
"""


class Alive(BaseModel):
    """Shows that the server is alive."""

    status: Literal["alive"]


@router.get(
    "/",
    openapi_extra=OPEN,
    response_model=Alive,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
async def home(request: Request) -> Any:
    """Returns that the server is alive, or a page with links to browsers."""
    page: Response = HTMLResponse(_PAGE)
    return page if _prefers_html(request.headers.get("Accept", "")) else Alive(status="alive")


def _prefers_html(accept: str) -> bool:
    """Returns whether a client asks for HTML rather than JSON."""
    quality: dict[str, float] = {}
    for entry in accept.split(","):
        kind, _, weight = entry.replace(" ", "").lower().partition(";q=")
        try:
            quality[kind] = float(weight or 1)
        except ValueError:
            quality[kind] = 0.0
    json = quality.get("application/json", max(quality.get("application/*", 0.0), quality.get("*/*", 0.0)))
    return quality.get("text/html", 0.0) > json
