"""The alarms that detectors raised: listed, streamed, cleared."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from defenses.reactions.alarm import StandingAlarm
from server.deployment.service import Service
from server.http.openapi import KEYED, NAMED
from server.routes.accounts import Administrator, Here
from wire import Refused

router = APIRouter(prefix="/admin/alarms", tags=["Alarms"], responses=KEYED)

_PERIOD = 0.5  # seconds between two looks at the control log
_BEATS = 30  # looks after which a comment shows that the stream lives


class Alarm(BaseModel):
    """What a detector found of an account, and what becomes of it."""

    account: str = Field(examples=["alice"])
    model: str = Field(examples=["victim"])
    detector: str = Field(examples=["prada"])
    row: int = Field(description="After which row it was found, counted from the account's first.", examples=[471])
    statistic: float = Field(description="The detector's statistic then.", examples=[0.93])
    reaction: str = Field(examples=["refuse"])
    at: float = Field(description="Seconds since the epoch.", examples=[1763733600.0])


@router.get("")
async def alarms(by: Administrator, here: Here) -> list[Alarm]:
    """Lists the alarms that stand, the last one last."""
    return [Alarm.model_validate(alarm._asdict()) for alarm in here.registry.all_alarms()]


_EVENTS = {
    "text/event-stream": {
        "schema": {"type": "string"},
        "example": 'event: alarm\ndata: {"account":"alice","model":"victim","detector":"prada","row":471}\n\n',
    }
}


@router.get("/stream", response_class=StreamingResponse, responses={200: {"content": _EVENTS}})
async def stream(request: Request, by: Administrator, here: Here) -> StreamingResponse:
    """Streams alarms as server-sent events: ``alarm`` for each that stands or is raised, ``clear`` when one is."""
    draining: Callable[[], bool] = request.scope.get("draining", lambda: False)
    return StreamingResponse(
        events(here, draining), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
    )


@router.delete("/{account}/{model}/{detector}", responses=NAMED)
async def clear(account: str, model: str, detector: str, by: Administrator, here: Here) -> Alarm:
    """Clears an alarm and ends its reaction; the detector starts anew with the account."""
    return Alarm.model_validate((await here.registry.clear_alarm(account, model, detector, by.name))._asdict())


async def events(here: Service, draining: Callable[[], bool]) -> AsyncIterator[str]:
    """Yields server-sent events until the server drains, or the store is away."""
    told: list[StandingAlarm] = []
    looks = 0
    while not draining():
        standing = here.registry.all_alarms()
        news = [("clear", alarm) for alarm in told if alarm not in standing]
        news += [("alarm", alarm) for alarm in standing if alarm not in told]
        for event, alarm in news:
            yield f"event: {event}\ndata: {Alarm.model_validate(alarm._asdict()).model_dump_json()}\n\n"
        told = standing
        if looks % _BEATS == 0:
            yield ": the stream lives\n\n"
        looks += 1
        await asyncio.sleep(_PERIOD)
        try:
            await here.catch_up()
        except Refused:  # the client asks again, as it does when any stream ends
            return
