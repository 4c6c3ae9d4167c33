"""The outermost layer: every request gets an id, is counted, and is refused while the server closes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from time import monotonic

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.control.accounts import Account
from server.deployment.service import Service
from server.deployment.turn import closing
from server.http import hosts, logs, problems
from server.http.body import read_body
from server.http.intake import STRANGERS, Intake
from server.http.origins import Origins
from server.http.request_record import RequestRecord
from server.http.telemetry import Telemetry
from server.protocols import PROTOCOLS
from server.protocols.protocol import Target, answer, authorization, find
from wire import Malformed, Origin
from wire.tensors import HEADER_LENGTH

log = logging.getLogger(__name__)

MOST_ELSEWHERE = 2**14  # bytes of a body that carries no rows: a stack, which takes long to read
# Headers that are read: of two that differ, each reader might see another one.
READ_ONCE = (
    b"authorization",
    b"host",
    b"content-encoding",
    b"content-type",
    HEADER_LENGTH.lower().encode(),
    b"x-request-id",
)
LIVE = "/v2/health/live"


class Application:
    """The application as the HTTP server sees it.

    Attributes:
        service: Answers requests about rows.
        draining: Whether the server is closing. Requests under way are answered, new ones get 503, and every
            answer ends its connection.
        telemetry: Counts requests.
        intake: Counts what accounts make the server hold and refuse.
        hosts: The names by which clients may call the server; None if by any.
        origins: Finds where requests come from; None if that is not noted.
    """

    hosts: frozenset[bytes] | None = None
    origins: Origins | None = None

    def __init__(self, service: Service, app: ASGIApp, telemetry: Telemetry, *, access_log: bool = False) -> None:
        """Takes the parts of the application.

        Args:
            service: Answers requests about rows.
            app: Answers all other requests.
            telemetry: Counts requests.
            access_log: Whether every request leaves a line in the log.
        """
        self.service, self.draining = service, False
        self.telemetry, self.intake = telemetry, Intake(service.settings)
        self._app, self._access_log = app, access_log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = monotonic()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        record = RequestRecord(logs.request_id(headers.get(b"x-request-id")))
        self.telemetry.in_flight.inc()

        async def out(message: Message) -> None:
            if message["type"] == "http.response.start":
                if 400 <= message["status"] < 500 and not self.draining:
                    await self._rest(record.account)
                record.status = message["status"]
                message["headers"].append((b"x-request-id", record.id.encode()))
                if self.draining:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self._answer(record, scope, headers, receive, out)
        finally:
            self.finish(record, monotonic() - begun)

    async def _rest(self, account: str | None) -> None:
        """Holds a refusal back if too many came before it; those of clients without a valid key count here."""
        if account is None:
            self.intake.refused(STRANGERS)
        if rest := self.intake.rest(account or STRANGERS):
            await asyncio.sleep(rest)

    def finish(self, record: RequestRecord, seconds: float) -> None:
        """Counts a request that took so many seconds, and logs it."""
        self.telemetry.in_flight.dec()
        self.telemetry.request(record.route, record.status, seconds)
        if record.rows is not None and record.model is not None:
            self.telemetry.rows(record.model, record.rows)
        if record.reason is not None:
            self.telemetry.refused(record.reason)
        if self._access_log:
            logs.access(record, seconds)

    async def _answer(
        self, record: RequestRecord, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, out: Send
    ) -> None:
        target = find(scope["path"], PROTOCOLS)
        try:
            self.expect_head(scope["headers"], headers)
            if self.draining and scope["path"] != LIVE:
                await self._drain(record, target, headers, receive)
            if target is None:
                await self._elsewhere(record, scope, headers, receive, out)
                return
            record.route = target.route
            if scope["method"] != "POST":
                raise HTTPException(405, headers={"Allow": "POST"})
            peer = scope.get("client")
            more, body = await answer(
                self.service,
                self.intake,
                target,
                headers,
                receive,
                record,
                lambda account: self.origin(account, peer, headers),
            )
        except asyncio.CancelledError:
            if not self.draining:
                raise
            if not record.status:  # it was still being answered when the server's time was over
                record.reason = "drain"
                await problems.response(closing(), record.id, scope["path"])(scope, receive, out)
            return
        except Exception as error:
            if target is None and record.status:  # the framework has answered, and raises what it could not handle
                raise
            record.reason = record.reason or problems.reason(error)
            response = problems.response(error, record.id, scope["path"])
            if response.status_code == 500:
                log.exception("a request failed")
            await response(scope, receive, out)
            return
        more.append((b"content-length", b"%d" % len(body)))
        await out({"type": "http.response.start", "status": 200, "headers": more})
        await out({"type": "http.response.body", "body": body})

    def expect_head(self, given: Sequence[tuple[bytes, bytes]], headers: Mapping[bytes, bytes]) -> None:
        """Refuses a head that could be read in two ways, or that is meant for another server."""
        if len(headers) < len(given):
            names = [name for name, _ in given]
            for name in READ_ONCE:
                if names.count(name) > 1:
                    raise Malformed(
                        f"the header {name.decode()} is given {names.count(name)} times; expected once"
                    )
        if self.hosts is not None:
            hosts.expect(headers.get(b"host", b""), self.hosts)

    def origin(
        self, account: Account, peer: tuple[str, int] | None, headers: Mapping[bytes, bytes]
    ) -> Origin | None:
        """Returns where a request comes from; None if that is not noted."""
        return None if self.origins is None else self.origins.of(account, peer and peer[0], headers)

    async def _elsewhere(
        self, record: RequestRecord, scope: Scope, headers: Mapping[bytes, bytes], receive: Receive, out: Send
    ) -> None:
        """Lets the framework answer; HEAD is GET without a body."""
        receive = self._limited(headers, receive)
        if scope["method"] == "HEAD":
            scope, out = {**scope, "method": "GET"}, _without_body(out)
        scope["record"] = record
        await self._app(scope, receive, out)
        record.route = getattr(scope.get("route"), "path", record.route)

    async def _drain(
        self, record: RequestRecord, target: Target | None, headers: Mapping[bytes, bytes], receive: Receive
    ) -> None:
        """Refuses a request, once its body is read: a client that still sends would lose the answer."""
        most = MOST_ELSEWHERE
        if target is not None:
            await self.service.authenticate(authorization(headers))
            most = self.service.settings.max_body
        record.reason = "drain"
        await read_body(headers, receive, most, self.service.settings.body_seconds)
        raise closing()

    def _limited(self, headers: Mapping[bytes, bytes], receive: Receive) -> Receive:
        """Returns a ``receive`` that reads the whole body, with limits, when it is first called."""
        begun = False

        async def limited() -> Message:
            nonlocal begun
            if begun:
                return await receive()
            begun = True
            most = min(MOST_ELSEWHERE, self.service.settings.max_body)
            body = await read_body(headers, receive, most, self.service.settings.body_seconds)
            return {"type": "http.request", "body": body.read(most), "more_body": False}

        return limited


def _without_body(out: Send) -> Send:
    """Returns a ``send`` that ends the answer after its headers, even where a stream sends nothing yet."""

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            await out(message)
            await out({"type": "http.response.body", "body": b""})

    return send
