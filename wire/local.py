"""An HTTP client for an ASGI application in the same process, and a clock that tests can move.

An :class:`~wire.http.Endpoint` whose client is :func:`local_client` sends the same bytes as over a network, so an
attack gets the same answers, refusals and bill in process as over HTTP.
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
        """Returns the time."""
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
    """Opens a synchronous HTTP client for an ASGI application, whose event loop runs in another thread."""
    with (
        start_blocking_portal() as portal,
        httpx.Client(transport=_Bridge(app, portal), base_url=base_url) as client,
    ):
        yield client
