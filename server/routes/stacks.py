"""Defence stacks that administrators read and replace while the server runs."""

from __future__ import annotations

import tomllib
from typing import Any

import tomli_w
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, ValidationError

from server.deployment.service import Service
from server.deployment.stack import Tables
from server.http.openapi import NAMED
from server.layer_tables import defense_of, faults
from server.routes.access import Administrator, AdminRoute, ServiceDep
from wire import Malformed
from wire.tensors import read_json

router = APIRouter(
    prefix="/admin/models/{model}/defenses", tags=["Administration"], route_class=AdminRoute, responses=NAMED
)


MOST_LAYERS = 64  # of a stack: the time to compare them grows with the square of their number
MOST_DOTS = 32  # in a line: the time to read a dotted key grows with the square of its parts


class Stack(BaseModel):
    """A victim's defence stack, outermost first: the tables of the server's TOML."""

    defenses: list[dict[str, Any]] = Field(
        max_length=MOST_LAYERS, examples=[[{"type": "rate_limit", "rows_per_second": 100, "burst": 2000}]]
    )


_TOML = {
    "schema": {"type": "string"},
    "example": '[[defenses]]\ntype = "rate_limit"\nrows_per_second = 100\nburst = 2000\n',
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Stack"}},
            "application/toml": _TOML,
        },
    }
}


@router.get("", response_model=Stack, responses={200: {"content": {"application/toml": _TOML}}})
async def defenses(model: str, request: Request, by: Administrator, service: ServiceDep) -> Any:
    """Returns the defence stack of a victim that is in force, in JSON or in the TOML of the server's settings."""
    stack = {"defenses": list(_in_force(service, model))}
    if "toml" in request.headers.get("Accept", ""):
        return Response(tomli_w.dumps(stack), media_type="application/toml")
    return stack


@router.put("", response_model=Stack, openapi_extra=_BODY)
async def replace_defenses(model: str, request: Request, by: Administrator, service: ServiceDep) -> Any:
    """Replaces a victim's whole defence stack while the server runs, for all workers at once."""
    _in_force(service, model)  # whether there is such a model
    stack = await _read_stack(request)
    if model in service.languages.names:
        service.languages.bound(model, stack)  # whether it contradicts itself
    else:
        for layer in stack:
            defense_of(layer)
        await service.try_out(model, service.deployment(model, stack))  # the same, or the past
    await service.control.stacks.replace(model, stack, by.name)
    return {"defenses": stack}


@router.delete("", response_model=Stack)
async def restore_defenses(model: str, by: Administrator, service: ServiceDep) -> Any:
    """Puts the configured defence stack of a victim back in force."""
    _in_force(service, model)
    await service.control.stacks.replace(model, None, by.name)
    return {"defenses": list(_in_force(service, model))}


def _in_force(service: Service, model: str) -> Tables:
    """Returns the defence stack of a model of rows or of language, or raises :class:`~wire.Refused` (404)."""
    return service.languages.stack(model) if model in service.languages.names else service.stack(model)


async def _read_stack(request: Request) -> list[dict[str, Any]]:
    body = await request.body()
    try:
        if "toml" in request.headers.get("Content-Type", ""):
            if any(line.count(b".") > MOST_DOTS for line in body.splitlines()):
                raise Malformed(f"a line of the TOML has more than {MOST_DOTS} dots")
            given = tomllib.loads(body.decode())
        else:
            given = read_json(body)
        return Stack.model_validate(given).defenses
    except ValidationError as error:
        raise Malformed(f"not a stack: {faults(error)}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or an integer of too many digits
        raise Malformed(f"the TOML is broken: {error}") from None
