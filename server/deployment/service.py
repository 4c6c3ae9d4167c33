"""What the routes share: the deployments, the accounts, the clock."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson
from fastapi import Request

from defenses.store import Store, VersionConflict
from server.control.log import Account, ControlLog
from server.deployment.models import LoadedModel
from server.deployment.stack import Deployed, Deployment, Tables, Timed, deploy, layer_secret
from server.settings import Settings
from wire import Answer, Array, BadInput, Query, Refused
from wire.ratelimit import Limits

STORE_SECONDS = 1.0  # after which it counts as away, for who asks whether the server is ready

log = logging.getLogger(__name__)


class Caller(NamedTuple):
    """Who asks, as the control log had it at a position.

    Attributes:
        account: The account.
        authorization: The ``Authorization`` header.
        position: The position.
    """

    account: Account
    authorization: str | None
    position: int


class Service:
    """A running server, without its HTTP.

    Attributes:
        settings: What it was told to do.
        registry: Its accounts and keys.
        store: Where it remembers.
        clock: Tells the time, in seconds since the epoch.
        up: For each process that should serve whether it does.
    """

    up: Sequence[int] = (1,)

    def __init__(
        self,
        settings: Settings,
        store: Store,
        served: Mapping[str, LoadedModel],
        secret: bytes,
        clock: Callable[[], float],
        timed: Timed,
    ) -> None:
        """Puts victims behind their configured defences.

        Raises:
            BadInput: A stack contradicts itself.
        """
        self.settings, self.store, self.clock = settings, store, clock
        self.registry = ControlLog(store, clock, self._redeploy)
        self._served, self._secret, self._timed = served, secret, timed
        self._configured: dict[str, Tables] = {victim.name: victim.defenses for victim in settings.victims}
        self._stacks: dict[str, Tables] = dict(self._configured)
        self._deployments: dict[str, Deployment | None] = {
            model: self.deployment(model, stack) for model, stack in self._configured.items()
        }

    @property
    def models(self) -> list[str]:
        """The models' names."""
        return list(self._served)

    async def begin(self) -> None:
        """Reads what all layers remember.

        Raises:
            BadInput: A layer finds something that is broken or does not belong there. If an administrator put it
                in place, its model is withdrawn instead.
        """
        await self.catch_up()
        for model, deployment in self._deployments.items():
            try:
                if deployment is not None:
                    await self.try_out(model, deployment)
            except BadInput as error:
                if self._stacks[model] is self._configured[model]:
                    raise
                self._deployments[model] = None
                _log_withdrawn(model, error)

    async def try_out(self, model: str, deployment: Deployment) -> None:
        """Lets the layers of a deployment read what they need, as in :meth:`begin`."""
        try:
            await deployment.start(self._served[model].card.classes)
        except BadInput as error:
            raise BadInput(f"victim {model}: {error}") from None

    def marks_key(self, model: str) -> bytes:
        """Returns the key of a model's marks."""
        self.stack(model)  # whether there is such a model
        return layer_secret(self._secret, model, "dawn")

    async def catch_up(self) -> None:
        """Reads what administrators and other workers have changed."""
        await self.registry.catch_up()

    def _redeploy(self) -> None:
        """Puts stacks in force that the log has replaced."""
        for model in self._served:
            stack = self.stack(model)
            if stack is not self._stacks[model]:
                self._deployments[model] = self._replaced(model, stack)
                self._stacks[model] = stack

    async def check(self) -> None:
        """Raises :class:`~wire.Refused` (503) unless all processes serve all models and the store answers."""
        if not all(self.up):
            raise Refused(f"{sum(self.up)} of {len(self.up)} workers serve", status=503, retry_after=1)
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await self.catch_up()
        except TimeoutError:
            late = f"the store has not answered within {STORE_SECONDS:g} seconds"
            raise Refused(late, status=503, retry_after=1) from None
        if withdrawn := [model for model, deployment in self._deployments.items() if deployment is None]:
            raise Refused(_withdrawn(withdrawn), status=503)

    async def enter(self, authorization: str | None) -> Account:
        """Tells whose key an ``Authorization`` header holds, or raises :class:`~wire.Refused` (401)."""
        await self.catch_up()
        return self.registry.authenticate(authorization)

    async def admit(self, authorization: str | None) -> Caller:
        """Refuses unknown keys (401), before a body is read; one that was revoked is refused by :meth:`ask`."""
        try:
            return self._visitor(authorization)
        except Refused:  # its account may be new
            await self.catch_up()
            return self._visitor(authorization)

    def _visitor(self, authorization: str | None) -> Caller:
        return Caller(self.registry.authenticate(authorization), authorization, self.registry.position)

    def stack(self, model: str) -> Tables:
        """Returns the defence stack of a model that is in force, or raises :class:`~wire.Refused` (404)."""
        if model not in self._served:
            raise Refused(f"no model {model!r} here; there are {', '.join(self._served)}", status=404)
        return self.registry.state.stacks.get(model, self._configured[model])

    def deployment(self, model: str, stack: Tables) -> Deployment:
        """Binds a stack, and selects of it what the accounts of each plan would meet.

        Raises:
            BadInput: The stack contradicts itself.
        """
        return deploy(
            self._served[model],
            stack,
            self.settings.plans,
            self.store,
            self._secret,
            self.registry,
            self._timed,
        )

    def model(self, account: Account, model: str, version: str | None = None) -> Deployed:
        """Returns what an account meets under a model's name, or raises :class:`~wire.Refused` (404)."""
        if model not in self._deployments:
            raise Refused(f"no model {model!r} here; there are {', '.join(self._served)}", status=404)
        deployment = self._deployments[model]
        if deployment is None:
            raise Refused(_withdrawn([model]), status=503)
        deployed = deployment.plans.get(account.plan)
        if deployed is None:
            raise Refused(f"the account's plan {account.plan!r} is not in the server's settings", status=403)
        if version is not None and version != deployed.card.version:
            raise Refused(
                f"no version {version!r} of model {model!r}; there is {deployed.card.version!r}", status=404
            )
        return deployed

    def of_plan(self, plan: str) -> dict[str, Deployed]:
        """Returns what accounts of a plan meet, by model."""
        return {
            model: deployment.plans[plan]
            for model, deployment in self._deployments.items()
            if deployment is not None and plan in deployment.plans
        }

    async def ask(
        self,
        visitor: Caller,
        model: str,
        version: str | None,
        read: Callable[[Deployed], tuple[Array, str | None, Any]],
    ) -> tuple[Answer, Limits, Deployed, Any]:
        """Asks about rows; the same request under the same id is billed once.

        Args:
            visitor: Who asks.
            model: Name of the model.
            version: Its version, if one is asked for.
            read: Reads rows, the idempotency key and what else a request holds, for the deployed victim.

        Returns:
            The answer, the state in which it left the limits, what gave the answer, and what else
            ``read`` returned.
        """
        while True:
            if visitor.position != self.registry.position:
                visitor = self._visitor(visitor.authorization)
            deployed = self.model(visitor.account, model, version)
            x, idempotency_key, rest = read(deployed)
            try:
                query = Query(visitor.account.name, x, self.clock(), idempotency_key)
                return *await deployed.admission.admitted(query, deployed.handle), deployed, rest
            except VersionConflict:
                await self.catch_up()

    def _replaced(self, model: str, stack: Tables) -> Deployment | None:
        try:
            return self.deployment(model, stack)
        except BadInput as error:  # the server that accepted it had other settings
            _log_withdrawn(model, error)
            return None


def _log_withdrawn(model: str, error: BadInput) -> None:
    """Logs that a model waits for an administrator."""
    log.error("%s: %s", _withdrawn([model]), error)


def _withdrawn(models: Sequence[str]) -> str:
    return (
        f"withdrawn, since defences that an administrator put in place cannot be used with these settings: "
        f"{', '.join(models)}; DELETE /admin/models/MODEL/defenses restores the configured ones"
    )


def idempotency_key(model: str, request_id: str | None, x: Array) -> str | None:
    """Returns what names a request in the ledger: its id, its model and its rows; None without an id."""
    if request_id is None:
        return None
    named = hashlib.blake2b(orjson.dumps([model, request_id, x.shape]), digest_size=16)
    named.update(orjson.dumps(x.tolist()) if x.dtype == object else np.ascontiguousarray(x).data)
    return named.hexdigest()


def of(request: Request) -> Service:
    """Returns the range that a request came to."""
    served: Service = request.app.state.range
    return served
