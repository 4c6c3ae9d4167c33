"""The same transport into an ASGI application in this process, on a clock that can be moved.

An :class:`~wire.http.Endpoint` whose client is :func:`local_client` says the same bytes as over a network, so an
attack in process and over HTTP must give the same answers, refusals and bill.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal


class Clock:
    """A clock that stands still until it is moved.

    Attributes:
        now: Seconds since the epoch.
    """

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        """Tells the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Moves the clock on instead of waiting."""
        self.now += seconds


class _Bridge(httpx.BaseTransport):
    """Runs each request of a synchronous client in the event loop of a portal."""

    def __init__(self, app: Any, portal: BlockingPortal) -> None:
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._portal = portal

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._portal.call(self._exchange, request)

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        request.read()
        reply = await self._transport.handle_async_request(request)
        return httpx.Response(reply.status_code, headers=reply.headers, content=await reply.aread())


@contextmanager
def local_client(app: Any, base_url: str = "http://local") -> Iterator[httpx.Client]:
    """Opens a synchronous HTTP client of an ASGI application, whose loop runs in a thread meanwhile."""
    with (
        start_blocking_portal() as portal,
        httpx.Client(transport=_Bridge(app, portal), base_url=base_url) as client,
    ):
        yield client
