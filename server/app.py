"""The application: settings and a store in, an ASGI application out."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from defenses.store import Store, VersionConflict
from server.deployment.models import LoadedModel
from server.deployment.service import Service
from server.http import openapi, problems
from server.http.application import Application
from server.http.telemetry import Telemetry
from server.protocols import open_inference as inference
from server.protocols import v1 as predict
from server.routes import accounts, alarms, marks
from server.settings import Settings
from wire.version import VERSION


def create_app(
    settings: Settings,
    store: Store,
    served: Mapping[str, LoadedModel],
    secret: bytes,
    clock: Callable[[], float] = time.time,
    telemetry: Telemetry | None = None,
) -> Application:
    """Puts victims behind their defences and routes in front of them.

    Args:
        settings: The server's settings.
        store: Where accounts and defences remember.
        served: The loaded victims, by name.
        secret: What the defences' keys are derived from; the same after every restart.
        clock: Tells the time, in seconds since the epoch.
        telemetry: Counts; by default in metrics that nobody sees.

    Raises:
        BadInput: A defence stack contradicts itself.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await app.state.range.catch_up()
        yield
        await store.close()

    app = FastAPIOffline(  # the pages at /docs load nothing from elsewhere
        title="MLaaS Range",
        version=VERSION,
        summary="A prediction API worth attacking.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
    )
    telemetry = telemetry or Telemetry(VERSION)
    app.state.range = here = Service(settings, store, served, secret, clock, telemetry.timed)
    for routes in (inference.router, predict.router, accounts.router, alarms.router, marks.router):
        app.include_router(routes)
    problems.install(app)
    openapi.install(app)
    return Application(here, app, telemetry, access_log=settings.log == "json")


async def server_secret(store: Store) -> bytes:
    """Returns the secret of a store, which is drawn when it is asked for first."""
    while not (kept := (await store.read("secret")).entries):
        with suppress(VersionConflict):  # another process was faster
            await store.append("secret", [secrets.token_bytes(32)], expected=0)
    return kept[0]
