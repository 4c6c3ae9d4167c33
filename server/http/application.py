"""The outermost layer: each request enters and leaves here, with an id, counted, and refused at closing time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.deployment.service import Service
from server.http import logs, problems
from server.http.body import read_body
from server.http.telemetry import Telemetry
from server.protocols import hot
from server.protocols.hot import RequestRecord
from wire import Refused

log = logging.getLogger(__name__)

MOST_ELSEWHERE = 2**20  # bytes of a body that holds no rows
LIVE = "/v2/health/live"


class Application:
    """The application as the HTTP server sees it.

    Attributes:
        here: What the hot routes ask.
        draining: Whether the server is closing: requests that are being answered are answered, others get 503, and
            every answer ends its connection.
    """

    def __init__(self, here: Service, app: ASGIApp, telemetry: Telemetry, *, access_log: bool = False) -> None:
        """Opens the door.

        Args:
            here: What the hot routes ask.
            app: Answers all other requests.
            telemetry: Counts.
            access_log: Whether every request leaves a line in the log.
        """
        self.here, self.draining = here, False
        self._app, self._telemetry, self._access_log = app, telemetry, access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = monotonic()
        headers = dict(scope["headers"])
        visit = RequestRecord(logs.request_id(headers.get(b"x-request-id")))
        self._telemetry.in_flight.inc()

        async def out(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
                message["headers"].append((b"x-request-id", visit.id.encode()))
                if self.draining:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self._answer(visit, scope, headers, receive, out)
        finally:
            seconds = monotonic() - begun
            self._telemetry.in_flight.dec()
            self._telemetry.request(visit.route, visit.status, seconds)
            if visit.rows is not None and visit.model is not None:
                self._telemetry.rows(visit.model, visit.rows)
            if visit.reason is not None:
                self._telemetry.refused(visit.reason)
            if self._access_log:
                logs.access(
                    visit.id,
                    visit.route,
                    visit.status,
                    seconds,
                    account=visit.account,
                    model=visit.model,
                    rows=visit.rows,
                    reason=visit.reason,
                )

    async def _answer(
        self, visit: RequestRecord, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, out: Send
    ) -> None:
        target = hot.find(scope["path"]) if scope["method"] == "POST" else None
        limits = self.here.settings
        try:
            if self.draining and scope["path"] != LIVE:
                if target is not None:
                    await self.here.admit(hot.authorization(headers))
                visit.reason = "drain"
                # The body is read first: to close on a client that still sends would cost it the answer.
                most = limits.max_body if target is not None else min(MOST_ELSEWHERE, limits.max_body)
                await read_body(headers, receive, most, limits.body_seconds)
                raise _closing()
            if target is None:
                if b"content-length" in headers or b"transfer-encoding" in headers:
                    most = min(MOST_ELSEWHERE, limits.max_body)
                    receive = _again(await read_body(headers, receive, most, limits.body_seconds), receive)
                scope["visit"] = visit
                scope["draining"] = lambda: self.draining
                await self._app(scope, receive, out)
                visit.route = getattr(scope.get("route"), "path", visit.route)
                return
            visit.route = target.protocol.template
            more, body = await hot.answer(self.here, target, headers, receive, visit)
        except asyncio.CancelledError:
            if not self.draining:
                raise
            if not visit.status:  # it was still being answered when the last of the server's time was over
                visit.reason = "drain"
                await problems.told(_closing(), visit.id)(scope, receive, out)
            return
        except Exception as error:
            if target is None and visit.status:  # the framework has answered, and raises what it could not handle
                raise
            visit.reason = visit.reason or problems.reason(error)
            response = problems.told(error, visit.id)
            if response.status_code == 500:
                log.exception("a request failed")
            await response(scope, receive, out)
            return
        more.append((b"content-length", b"%d" % len(body)))
        await out({"type": "http.response.start", "status": 200, "headers": more})
        await out({"type": "http.response.body", "body": body})


def _closing() -> Refused:
    return Refused("the server is closing; ask again, and another may answer", status=503, retry_after=1)


def _again(body: bytes, receive: Receive) -> Receive:
    """Returns a ``receive`` that tells the body that was read, and goes on from there."""
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
