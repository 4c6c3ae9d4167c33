"""The alarms that detectors raised: listed, streamed and cleared by administrators."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import anyio
from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sse_starlette import EventSourceResponse, ServerSentEvent

from defenses.reactions.alarm import StandingAlarm
from server.deployment.service import Service
from server.http.openapi import KEYED, NAMED
from server.routes.access import Administrator, AdminRoute, ServiceDep
from wire import Refused

router = APIRouter(prefix="/admin/alarms", tags=["Alarms"], route_class=AdminRoute, responses=KEYED)

_PERIOD = 0.5  # seconds between two reads of the control log
_GRACE = 5.0  # seconds that a closing server gives the stream to end


class Alarm(BaseModel):
    """An account's alarm, and the reaction to it."""

    account: str = Field(examples=["alice"])
    model: str = Field(examples=["victim"])
    detector: str = Field(examples=["prada"])
    row: int = Field(description="The account's row after which it was raised, counted from 1.", examples=[471])
    statistic: float = Field(description="The detector's statistic then.", examples=[0.93])
    reaction: str = Field(examples=["refuse"])
    at: float = Field(description="Seconds since the epoch.", examples=[1763733600.0])


Harmless = Annotated[
    bool,
    Query(
        description="Whether the account's rows so far were found harmless: they calibrate detectors from then on."
    ),
]


@router.get("")
async def alarms(by: Administrator, service: ServiceDep) -> list[Alarm]:
    """Lists the alarms that stand, oldest first."""
    return [_shown(alarm) for alarm in service.control.alarms.all()]


_EVENTS = {
    "text/event-stream": {
        "schema": {"type": "string"},
        "example": 'event: alarm\ndata: {"account":"alice","model":"victim","detector":"prada","row":471}\n\n',
    }
}


@router.get("/stream", response_class=EventSourceResponse, responses={200: {"content": _EVENTS}})
async def stream(by: Administrator, service: ServiceDep) -> EventSourceResponse:
    """Streams server-sent events: ``alarm`` for each alarm that stands or is raised, ``clear`` when it is cleared.

    The stream ends when the server closes.
    """
    closing = anyio.Event()
    return EventSourceResponse(
        events(service, closing), sep="\n", shutdown_event=closing, shutdown_grace_period=_GRACE
    )


@router.delete("/{account}/{model}/{detector}", responses=NAMED)
async def clear(
    account: str, model: str, detector: str, by: Administrator, service: ServiceDep, harmless: Harmless = False
) -> Alarm:
    """Clears an alarm and ends its reaction; the detector starts anew with the account."""
    return _shown(await service.control.alarms.clear(account, model, detector, by.name, harmless=harmless))


async def events(service: Service, closing: anyio.Event) -> AsyncIterator[ServerSentEvent]:
    """Yields server-sent events until the server closes, or the store is unavailable; a client then reconnects."""
    sent: Sequence[StandingAlarm] = []
    while not closing.is_set():
        standing = service.control.alarms.all()
        if standing is not sent:  # there may be many readers and many alarms
            before, after = set(sent), set(standing)
            news = [("clear", alarm) for alarm in sent if alarm not in after]
            news += [("alarm", alarm) for alarm in standing if alarm not in before]
            for event, alarm in news:
                yield ServerSentEvent(_shown(alarm).model_dump_json(), event=event)
            sent = standing
        with anyio.move_on_after(_PERIOD):
            await closing.wait()
        try:
            await service.catch_up()
        except Refused:
            return


def _shown(alarm: StandingAlarm) -> Alarm:
    return Alarm.model_validate(alarm._asdict())
