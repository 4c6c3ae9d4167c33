"""The dependencies that routes share: the service, and whether an administrator asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from server.control.accounts import Account
from server.deployment.service import Service, of
from wire import Refused

ServiceDep = Annotated[Service, Depends(of)]


async def _administrator(request: Request, service: ServiceDep) -> Account:
    account = (await service.enter(request.headers.get("Authorization"))).account
    plan = service.settings.plans.get(account.plan)
    if plan is None or not plan.admin:
        raise Refused("this needs the key of an account whose plan is an administrator's", status=403)
    return account


Administrator = Annotated[Account, Depends(_administrator)]
