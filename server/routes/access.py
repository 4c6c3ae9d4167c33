"""The dependencies that routes share: the service, and whether an administrator asks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute

from server.control.accounts import Account
from server.deployment.service import Service, of
from wire import Refused

ServiceDep = Annotated[Service, Depends(of)]


class AdminRoute(APIRoute):
    """A route that asks for the key of an administrator before it reads the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns FastAPI's handler, behind the check."""
        handle = super().get_route_handler()

        async def checked(request: Request) -> Response:
            service = of(request)
            account = (await service.enter(request.headers.get("Authorization"))).account
            plan = service.settings.plans.get(account.plan)
            if plan is None or not plan.admin:
                raise Refused("this needs the key of an account whose plan is an administrator's", status=403)
            request.state.administrator = account
            await request.body()  # FastAPI would answer 400 to whatever this raises
            return await handle(request)

        return checked


async def _administrator(request: Request) -> Account:
    administrator: Account = request.state.administrator
    return administrator


Administrator = Annotated[Account, Depends(_administrator)]
"""The administrator who asks, on an :class:`AdminRoute`."""
