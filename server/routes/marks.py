"""The owner's routes to the marks of a watermark: commit to them, fetch an account's, open their key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, Field

from defenses.watermarks.ledger import Broken, MarkLedger, Opening
from server.http.openapi import NAMED
from server.routes.access import Administrator, AdminRoute, ServiceDep
from wire import BadInput, Refused

router = APIRouter(prefix="/admin/models/{model}/marks", tags=["Marks"], route_class=AdminRoute, responses=NAMED)


class Committed(BaseModel):
    """A commitment to all marks of a model."""

    root: str = Field(description="Hash over the marks of all accounts: publish it.", examples=["9f2c"])
    at: float = Field(description="Seconds since the epoch.", examples=[1763733600.0])
    marks: int = Field(description="Number of marks that it binds.", examples=[162])


class Opened(BaseModel):
    """The key of a model's marks: anyone who has it can tell which rows are marked."""

    key: str = Field(description="In hexadecimal.", examples=["5a0e"])


@router.post("/commit", status_code=201)
async def commit(model: str, by: Administrator, service: ServiceDep) -> Committed:
    """Commits to all marks. The root is in the audit; publish it where others can date it."""
    service.stack(model)  # whether there is such a model
    with _refusing():
        made = await MarkLedger(service.store, model).commit(service.clock())
    await service.control.note({"do": "commit to marks", "model": model, "root": made.root}, by.name)
    return Committed(root=made.root, at=made.at, marks=made.marks)


@router.post("/open", status_code=201)
async def open_key(model: str, by: Administrator, service: ServiceDep) -> Opened:
    """Opens the key of the marks, for a judge. The audit records it: a key that others have is spent."""
    with _refusing():
        key = (await service.marks_key(model)).hex()
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
    """Returns an account's marks that a commitment binds, and the proof of it.

    The proof reveals how many accounts have marks, but neither their names nor how many marks they have.
    """
    service.stack(model)
    with _refusing():
        opening = await MarkLedger(service.store, model).open(account, root)
    return Response(opening.to_json(), media_type="application/json")


@contextmanager
def _refusing() -> Iterator[None]:
    """Answers 404 for what is not in the ledger, and 503 if the ledger is inconsistent."""
    try:
        yield
    except Broken as broken:
        raise Refused(str(broken), status=503) from None
    except BadInput as error:
        raise Refused(str(error), status=404) from None
