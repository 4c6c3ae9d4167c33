"""The running service, without its HTTP: deployed models, accounts and the clock."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import orjson
from fastapi import Request

from defenses.admission.price import Usage
from defenses.store import Store
from defenses.watermarks.key import WatermarkKey
from defenses.watermarks.ledger import MarkLedger
from server.control.accounts import Account
from server.control.log import ControlLog
from server.deployment.language import Languages
from server.deployment.models import LoadedModel
from server.deployment.recording import AccessLog
from server.deployment.stack import Deployed, Deployment, Tables, Timed, deploy, layer_secret
from server.deployment.turn import Asking, Reply, Turns
from server.deployment.withdrawn import log_withdrawn, withdrawn
from server.settings import Settings
from wire import Answer, Array, BadInput, Origin, Query, Refused
from wire.ratelimit import Limits

PROBE_SECONDS = 1.0  # for which a write to the store shows that it is available; anyone may ask
STORE_SECONDS = 1.0  # after which the store counts as unavailable, for readiness checks


class Caller(NamedTuple):
    """An authenticated client.

    Attributes:
        account: Its account.
        position: The position of the control log at which its key was valid.
    """

    account: Account
    position: int


class Service:
    """A running server, without its HTTP.

    Attributes:
        settings: Its settings.
        control: The control log: accounts, alarms and replaced stacks.
        store: Where state is kept.
        clock: Returns the time, in seconds since the epoch.
        languages: The language models.
        up: For each process that should serve, whether it does.
    """

    languages: Languages
    up: Sequence[int] = (1,)

    def __init__(
        self,
        settings: Settings,
        store: Store,
        served: Mapping[str, LoadedModel],
        secret: bytes,
        clock: Callable[[], float],
        timed: Timed,
        access_log: AccessLog | None = None,
    ) -> None:
        """Puts victims behind their configured defences.

        Raises:
            BadInput: A stack contradicts itself.
        """
        self.settings, self.store, self.clock = settings, store, clock
        first: dict[str, str] = {}  # by the weights, the first name under which they are served
        places = {name: first.setdefault(model.weights, name) for name, model in served.items()}
        self.control = ControlLog(store, clock, self._redeploy, places)
        self._served, self._secret, self._timed = served, secret, timed
        self._access_log = access_log
        self._probed = float("-inf")
        self._turns = Turns(store, self.control.alarms.standing, settings.account_rows)
        self._configured: dict[str, Tables] = {
            victim.name: victim.defenses for victim in settings.victims if victim.name in served
        }
        self._stacks: dict[str, Tables] = dict(self._configured)
        self._deployments: dict[str, Deployment | None] = {
            model: self.deployment(model, stack) for model, stack in self._configured.items()
        }

    @property
    def models(self) -> list[str]:
        """The models' names."""
        return list(self._served)

    async def begin(self) -> None:
        """Lets all layers read their state.

        Raises:
            BadInput: The state of a layer is broken, or belongs to another model. If an administrator put the
                layer in place, its model is withdrawn instead.
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
                log_withdrawn(model, error)

    async def try_out(self, model: str, deployment: Deployment) -> None:
        """Lets the layers of a deployment read what they need, as in :meth:`begin`."""
        try:
            await deployment.start(self._served[model].card.classes)
        except BadInput as error:
            raise BadInput(f"victim {model}: {error}") from None

    async def marks_key(self, model: str) -> bytes:
        """Returns the key of a model's marks."""
        self.stack(model)  # whether there is such a model
        former = layer_secret(self._secret, model, "dawn")
        begun = await MarkLedger(self.store, model).begun()
        if begun is not None and begun.key == WatermarkKey(former).commitment:
            return former
        return layer_secret(self._secret, f"weights/{self._served[model].weights}", "dawn")

    async def catch_up(self) -> None:
        """Reads the changes of administrators and other workers."""
        await self.control.catch_up()

    def _redeploy(self) -> None:
        """Binds the stacks that the control log has replaced."""
        for model in self._served:
            stack = self.stack(model)
            if stack is not self._stacks[model]:
                self._deployments[model] = self._replaced(model, stack)
                self._stacks[model] = stack
        self.languages.redeploy()

    async def check(self) -> None:
        """Raises :class:`~wire.Refused` (503) unless all processes serve all models and the store can write."""
        if not all(self.up):
            raise Refused(f"{sum(self.up)} of {len(self.up)} workers serve", status=503, retry_after=1)
        try:
            async with asyncio.timeout(STORE_SECONDS):
                await self.catch_up()
                if asyncio.get_running_loop().time() > self._probed + PROBE_SECONDS:
                    await self.store.probe()
                    self._probed = asyncio.get_running_loop().time()
        except TimeoutError:
            late = f"the store has not answered within {STORE_SECONDS:g} seconds"
            raise Refused(late, status=503, retry_after=1) from None
        gone = [model for model, deployment in self._deployments.items() if deployment is None]
        if gone := [*gone, *self.languages.withdrawn]:
            raise Refused(withdrawn(gone), status=503)

    async def enter(self, authorization: str | None) -> Caller:
        """Authenticates a client against the control log's end, or raises :class:`~wire.Refused` (401)."""
        await self.catch_up()
        return self._caller(authorization)

    async def authenticate(self, authorization: str | None) -> Caller:
        """Authenticates a client without a trip to the store, or raises :class:`~wire.Refused` (401).

        A key that was revoked meanwhile is found by :meth:`ask`.
        """
        return self.known(authorization) or await self.enter(authorization)  # the account may be new

    def known(self, authorization: str | None) -> Caller | None:
        """Returns the client whose key is known without a look at the store; None if :meth:`enter` has to look."""
        try:
            return self._caller(authorization)
        except Refused:
            return None

    def _caller(self, authorization: str | None) -> Caller:
        return Caller(self.control.accounts.authenticate(authorization), self.control.position)

    def stack(self, model: str) -> Tables:
        """Returns the defence stack of a model that is in force, or raises :class:`~wire.Refused` (404)."""
        if model not in self._served:
            raise Refused(f"no model {model!r} here; there are {', '.join(self._served)}", status=404)
        replaced = self.control.stacks.get(model)
        return self._configured[model] if replaced is None else replaced

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
            self.control,
            self._timed,
            self.control.alarms.place(model),
            self._access_log,
        )

    def deployed(self, account: Account, model: str, version: str | None = None) -> Deployed:
        """Returns a model as an account meets it, or raises :class:`~wire.Refused` (404)."""
        if model not in self._deployments:
            raise Refused(f"no model {model!r} here; there are {', '.join(self._served)}", status=404)
        deployment = self._deployments[model]
        if deployment is None:
            raise Refused(withdrawn([model]), status=503)
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
        caller: Caller,
        deployed: Deployed,
        x: Array,
        request_id: str | None = None,
        origin: Origin | None = None,
        usage: Usage | None = None,
    ) -> tuple[Answer, Limits]:
        """Asks a model about rows; a request that is repeated under its id is billed once.

        Args:
            caller: The authenticated client.
            deployed: The model, as its account meets it.
            x: The rows, whose values were checked.
            request_id: The client's name for the request, if any.
            origin: Where it comes from, if that is noted.
            usage: The tokens of the rows, where these are billed in their place.

        Returns:
            The answer, and the state in which it left the limits.

        Raises:
            Refused: A defence refuses.
            VersionConflict: The control log has grown since the client was authenticated: authenticate it again.
        """
        result: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def done(outcome: Reply | Exception) -> bool:
            if result.done():
                return False
            if isinstance(outcome, Exception):
                result.set_exception(outcome)
            else:
                result.set_result(outcome)
            return True

        self.submit(caller, deployed, x, request_id, done, origin, usage, checked=True)
        try:
            answer, limits, charge = await result
        except asyncio.CancelledError:
            if result.done() and not result.cancelled() and result.exception() is None:  # it came too late
                await self.store.refund(result.result().charge)
            raise
        self.store.answered(charge)
        return answer, limits

    def submit(
        self,
        caller: Caller,
        deployed: Deployed,
        x: Array,
        request_id: str | None,
        done: Callable[[Reply | Exception], bool],
        origin: Origin | None = None,
        usage: Usage | None = None,
        *,
        checked: bool = False,
    ) -> None:
        """Asks as :meth:`ask` does, together with all who do so in this turn of the event loop.

        Args:
            caller: The authenticated client.
            deployed: The model, as its account meets it.
            x: The rows.
            request_id: The client's name for the request, if any.
            checked: Whether their values were checked; else they are, with the others of this turn.
            done: Takes the outcome, in a later turn; returns whether somebody still waits for it.
            origin: Where the request comes from, if that is noted.
            usage: As for :meth:`ask`.
        """
        name, model = caller.account.name, deployed.card.model
        query = Query(name, x, self.clock(), idempotency_key(model, request_id, x), origin)
        alarms = self.control.alarms.standing(name, model)
        self._turns.add(Asking(query, deployed, alarms, caller.position, done, usage, checked))

    async def close(self) -> None:
        """Refuses and refunds what is still to be answered."""
        await self._turns.close()
        if self._access_log is not None:
            await asyncio.to_thread(self._access_log.close)

    def _replaced(self, model: str, stack: Tables) -> Deployment | None:
        try:
            return self.deployment(model, stack)
        except BadInput as error:  # the server that accepted it had other settings
            log_withdrawn(model, error)
            return None


def idempotency_key(model: str, request_id: str | None, x: Array) -> str | None:
    """Returns a request's name in the ledger, a hash of its id, model and rows; None without an id."""
    if request_id is None:
        return None
    named = hashlib.blake2b(orjson.dumps([model, request_id, x.shape]), digest_size=16)
    named.update(orjson.dumps(x.tolist()) if x.dtype == object else np.ascontiguousarray(x).data)
    return named.hexdigest()


def of(request: Request) -> Service:
    """Returns the service that a request came to."""
    service: Service = request.app.state.service
    return service
