"""The application: settings and a store in, an ASGI application out."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from defenses.store import Charge, Counter, Store, VersionConflict
from server.control.notices import Notices
from server.deployment.language import Languages
from server.deployment.models import LoadedModel
from server.deployment.recording import AccessLog
from server.deployment.service import Service
from server.deployment.stack import layer_secret
from server.http import openapi, problems
from server.http.application import Application
from server.http.origins import Origins
from server.http.telemetry import Telemetry
from server.protocols import PROTOCOLS, openai, openai_embeddings
from server.routes import account, admin_accounts, alarms, home, marks, stacks
from server.settings import Settings
from wire import BadInput
from wire.version import VERSION
from zoo.language.model import LanguageModel

_DRAWN = "server/secret"  # whose counter says that a secret was drawn; no account has this name


def create_app(
    settings: Settings,
    store: Store,
    served: Mapping[str, LoadedModel],
    secret: bytes,
    clock: Callable[[], float] | None = None,
    telemetry: Telemetry | None = None,
    languages: Mapping[str, LanguageModel] | None = None,
) -> Application:
    """Puts victims behind their defences and routes in front of them.

    Args:
        settings: The server's settings.
        store: Where accounts and defences keep their state.
        served: The loaded victims, by name.
        secret: Derives the defences' keys; the same after every restart.
        clock: Returns the time, in seconds since the epoch; by default the store's.
        telemetry: Counts requests; by default in a registry of its own.
        languages: The loaded language models, by name.

    Raises:
        BadInput: A defence stack contradicts itself.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await app.state.service.catch_up()
        yield
        await app.state.service.close()
        await app.state.service.languages.close()
        await notices.close()
        await store.close()

    app = FastAPIOffline(  # the pages at /docs load nothing from elsewhere
        title="MLaaS Range",
        version=VERSION,
        summary="A prediction API worth attacking.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
    )
    telemetry, clock = telemetry or Telemetry(VERSION), clock or store.now
    access_log = None if settings.access_log is None else AccessLog(settings.access_log)
    service = Service(settings, store, served, secret, clock, telemetry.timed, access_log)
    app.state.service = service
    service.languages = Languages(settings, store, languages or {}, clock, secret, service.control)
    service.control.alarms.notify = notices = Notices(telemetry.alarm, settings.alarm_webhook)
    for protocol in PROTOCOLS:
        app.include_router(protocol.router)
    app.include_router(openai.router)
    app.include_router(openai_embeddings.router)
    for routes in (home, account, admin_accounts, stacks, alarms, marks):
        app.include_router(routes.router)
    problems.install(app)
    openapi.install(app, [operation for protocol in PROTOCOLS for operation in protocol.operations])
    application = Application(service, app, telemetry, access_log=settings.log == "json")
    app.state.intake = application.intake
    if settings.origins is not None:
        application.origins = Origins(settings.origins, layer_secret(secret, "", "origins"))
    return application


async def server_secret(store: Store) -> bytes:
    """Returns the secret of a store, which is drawn at first use.

    Raises:
        BadInput: A secret was drawn once, and the store has lost it.
    """
    if not (kept := (await store.read("secret")).entries) and await store.levels(_DRAWN):
        raise BadInput(
            "the store has lost the server's secret, from which its noise and its marks derive: restore the store "
            "from a backup, or begin with an empty one"
        )
    while not kept:
        with suppress(VersionConflict):  # another process was faster
            await store.append("secret", [secrets.token_bytes(32)], expected=0)
        kept = (await store.read("secret")).entries
    if not await store.levels(_DRAWN):
        await store.charge(Charge(_DRAWN, [Counter("times", 1)]))
    return kept[0]
