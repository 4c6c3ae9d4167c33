"""What the owner may do with the marks that a watermark left: commit to them, show them, open their key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from defenses.watermarks.ledger import Broken, MarkLedger, Opening
from server.http.openapi import NAMED
from server.routes.access import Administrator, ServiceDep
from wire import BadInput, Refused

router = APIRouter(prefix="/admin/models/{model}/marks", tags=["Marks"], responses=NAMED)


class Committed(BaseModel):
    """A commitment to all marks of a model."""

    root: str = Field(description="Hash over the marks of all accounts: publish it.", examples=["9f2c"])
    at: float = Field(description="Seconds since the epoch.", examples=[1763733600.0])
    marks: int = Field(description="How many marks it binds.", examples=[162])


class Opened(BaseModel):
    """The key of a model's marks: who has it can tell which rows are marked."""

    key: str = Field(description="In hexadecimal.", examples=["5a0e"])


@router.post("/commit", status_code=201)
async def commit(model: str, by: Administrator, service: ServiceDep) -> Committed:
    """Commits to all marks that there are; the root goes into the audit, and should go where others date it."""
    service.stack(model)  # whether there is such a model
    with _refusing():
        made = await MarkLedger(service.store, model).commit(service.clock())
    await service.control.note({"do": "commit to marks", "model": model, "root": made.root}, by.name)
    return Committed(root=made.root, at=made.at, marks=made.marks)


@router.post("/open", status_code=201)
async def open_key(model: str, by: Administrator, service: ServiceDep) -> Opened:
    """Opens the key of the marks, for a judge; the audit says so, since the key is spent when others have it."""
    key = service.marks_key(model).hex()
    await service.control.note({"do": "open the key of marks", "model": model}, by.name)
    return Opened(key=key)


@router.get("/{account}", response_model=Opening)
async def marks(
    model: str,
    account: str,
    by: Administrator,
    service: ServiceDep,
    root: Annotated[
        str | None, Query(description="The commitment; by default the last.", examples=["9f2c"])
    ] = None,
) -> Response:
    """Shows the marks of an account that a commitment binds, with what proves that it does."""
    service.stack(model)
    with _refusing():
        opening = await MarkLedger(service.store, model).open(account, root)
    return Response(opening.to_json(), media_type="application/json")


@contextmanager
def _refusing() -> Iterator[None]:
    """Says what a register does not hold (404), and that it does not hold together (503)."""
    try:
        yield
    except Broken as broken:
        raise Refused(str(broken), status=503) from None
    except BadInput as error:
        raise Refused(str(error), status=404) from None
