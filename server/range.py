"""What the routes share: the deployments, the accounts, the clock."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson
from fastapi import Request

from server.accounts import Account, Accounts
from server.pipeline import Deployed
from server.settings import Settings
from wire import Answer, Array, Query, Refused


@dataclass(frozen=True)
class Range:
    """A running server, without its HTTP.

    Attributes:
        settings: What it was told to do.
        accounts: Its accounts.
        deployed: What accounts of each plan meet, by model and plan.
        clock: Tells the time, in seconds since the epoch.
    """

    settings: Settings
    accounts: Accounts
    deployed: Mapping[str, Mapping[str, Deployed]]
    clock: Callable[[], float]

    async def enter(self, request: Request) -> Account:
        """Tells whose key a request holds, or raises :class:`~wire.Refused` (401)."""
        return await self.accounts.authenticate(request.headers.get("Authorization"))

    def model(self, account: Account, model: str, version: str | None = None) -> Deployed:
        """Returns what an account meets under a model's name, or raises :class:`~wire.Refused` (404)."""
        plans = self.deployed.get(model)
        if plans is None:
            raise Refused(f"no model {model!r} here; there are {', '.join(self.deployed)}", status=404)
        deployed = plans.get(account.plan)
        if deployed is None:
            raise Refused(f"the account's plan {account.plan!r} is not in the server's settings", status=403)
        if version is not None and version != deployed.card.version:
            raise Refused(
                f"no version {version!r} of model {model!r}; there is {deployed.card.version!r}", status=404
            )
        return deployed

    async def ask(self, account: Account, deployed: Deployed, x: Array, request_id: str | None) -> Answer:
        """Asks about rows; the same rows of the same model under the same request id are billed once."""
        receipt = None
        if request_id is not None:
            named = orjson.dumps([deployed.card.model, request_id, x.shape])
            receipt = hashlib.blake2b(named + x.tobytes(), digest_size=16).hexdigest()
        return await deployed.handle(Query(account.name, x, self.clock(), receipt))


def of(request: Request) -> Range:
    """Returns the range that a request came to."""
    served: Range = request.app.state.range
    return served
