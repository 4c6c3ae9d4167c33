"""Plain requests about rows: answered without a framework, messages or a task of their own.

Such a request has a short body of a known length, and a key that is known here. All that is to be waited for is
the answer, and all that arrive in a turn of the event loop are answered together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from defenses.store import VersionConflict
from server.deployment.service import Caller
from server.deployment.stack import Deployed
from server.deployment.turn import Reply
from server.http import logs, problems
from server.http.body import SHORT, Body
from server.http.intake import Held
from server.http.request_record import RequestRecord
from server.protocols import PROTOCOLS
from server.protocols.protocol import Asked, Headers, Target, authorization, find, most_bytes, written
from wire import Malformed, Origin, Refused

if TYPE_CHECKING:
    from server.http.application import Application

log = logging.getLogger(__name__)

_ELABORATE = {b"content-encoding", b"transfer-encoding", b"expect"}  # headers of a body that is not plain

Given = Sequence[tuple[bytes, bytes]]
"""A request's headers in their order, each name in lower case with its value."""


class Head(NamedTuple):
    """The head of a plain request.

    Attributes:
        url: Its path and query.
        given: Its headers as they were sent.
        headers: The same by their names.
        target: What it asks.
        caller: The authenticated client.
        deployed: The model, as the account meets it.
        length: Length of its body in bytes.
        begun: How often the control log had been read from its beginning.
        origin: Where the request comes from, if that is noted.
    """

    url: bytes
    given: Given
    headers: Mapping[bytes, bytes]
    target: Target
    caller: Caller
    deployed: Deployed
    length: int
    begun: int
    origin: Origin | None

    @staticmethod
    def read(application: Application, url: bytes, given: Given, peer: tuple[str, int] | None) -> Head | None:
        """Returns the head of a POST request; None if the request is not plain, or will be refused."""
        headers, service = dict(given), application.service
        if application.draining or b"%" in url or not _ELABORATE.isdisjoint(headers):
            return None
        target = find(url.decode("latin-1").partition("?")[0], PROTOCOLS)
        length = int(headers.get(b"content-length", 0))
        if target is None or not 0 < length <= SHORT:
            return None
        caller = service.known(authorization(headers))
        if caller is None:
            return None
        try:
            application.expect_head(given, headers)
            deployed = service.deployed(caller.account, target.model, target.version)
        except (Malformed, Refused):
            return None
        if length > most_bytes(deployed, service.settings):
            return None
        origin = application.origin(caller.account, peer, headers)
        return Head(url, given, headers, target, caller, deployed, length, service.control.begun, origin)

    def holds(self, application: Application) -> bool:
        """Returns whether another request with this head may be answered as this one."""
        control = application.service.control
        return not application.draining and (self.caller.position, self.begun) == (control.position, control.begun)


class Exchange:
    """A plain request and its answer, in the place of uvicorn's ``RequestResponseCycle``.

    Attributes:
        keep_alive: Whether the connection stays open after the answer.
        response_started: Whether the answer was sent.
        response_complete: The same.
        disconnected: Whether the client is gone.
        message_event: Set when something arrives; nobody waits for it.
    """

    message_event = asyncio.Event()
    response_started = response_complete = disconnected = False
    _begun: float
    _deployed: Deployed
    _asked: Asked | None = None
    _task: asyncio.Task[None]

    def __init__(
        self,
        application: Application,
        head: Head,
        respond: Callable[[Exchange, int, Headers, bytes], None],
        *,
        keep_alive: bool,
    ) -> None:
        """Admits a request whose body is to come.

        Args:
            application: The application.
            head: The request's head.
            respond: Sends the answer: its status, headers and body.
            keep_alive: Whether the connection stays open after the answer.
        """
        self.keep_alive = keep_alive
        self._application, self._head, self._respond = application, head, respond
        self._parts: list[bytes] = []
        self._held: Held | None = None
        self._refused: Refused | None = None
        try:
            self._held = application.intake.admit(head.caller.account.name)
        except Refused as refused:
            self._refused = refused

    def receive(self, part: bytes) -> None:
        """Takes a part of the body; that of a refused request is dropped."""
        if self._refused is not None or self._held is None:
            return
        try:
            self._held.more(len(part))
        except Refused as refused:
            self._refused = refused
            self._forget()
        else:
            self._parts.append(part)

    def leave(self) -> None:
        """Forgets a request whose client has left before its body arrived."""
        self._forget()

    def _forget(self) -> None:
        """Lets go of the body, and counts a refusal."""
        if self._held is not None:
            self._held.end(self._refused)
        self._held, self._parts = None, []

    def begin(self) -> None:
        """Asks, now that the body has arrived."""
        self._begun = monotonic()
        head = self._head
        self._record = RequestRecord(logs.request_id(head.headers.get(b"x-request-id")), head.target.route)
        self._record.account, self._record.model = head.caller.account.name, head.target.model
        self._application.telemetry.in_flight.inc()
        self._ask(head.caller, head.deployed)

    def _ask(self, caller: Caller, deployed: Deployed) -> None:
        service, head = self._application.service, self._head
        self._deployed = deployed
        try:
            if self._refused is not None:
                raise self._refused
            assert self._held is not None
            content = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._asked = asked = self._held.read(
                head.target.protocol.read, head.headers, Body(content), deployed.card, service.settings.max_json
            )
            service.submit(caller, deployed, asked.x, asked.id, self._done, head.origin)
        except Exception as error:
            asyncio.get_running_loop().call_soon(self._done, error)  # many may be pipelined

    async def _ask_again(self) -> None:
        """Asks at the end of the control log, which has grown meanwhile."""
        service, head = self._application.service, self._head
        try:
            caller = await service.enter(authorization(head.headers))
            deployed = service.deployed(caller.account, head.target.model, head.target.version)
        except Exception as error:
            self._done(error)
        else:
            self._ask(caller, deployed)

    def _done(self, outcome: Reply | Exception) -> bool:
        if isinstance(outcome, VersionConflict):
            self._task = asyncio.get_running_loop().create_task(self._ask_again())
            return True
        application, record = self._application, self._record
        error = outcome if isinstance(outcome, Exception) else None
        if self._held is not None:
            self._held.end(error)
        self._parts = []  # the connection keeps this object until the next request
        if isinstance(outcome, Reply):
            try:
                asked, self._asked = self._asked, None
                assert asked is not None
                headers, content = written(
                    self._head.target.protocol, self._deployed, asked, outcome.answer, outcome.limits, record
                )
                record.status = 200
                application.service.store.answered(outcome.charge)
            except Exception as fault:
                error = fault
        if error is not None:
            record.reason, refusal = problems.reason(error), problems.response(error, record.id)
            if refusal.status_code == 500:
                log.error("a request failed", exc_info=error)
            record.status, headers, content = refusal.status_code, refusal.raw_headers, bytes(refusal.body)
        else:
            headers.append((b"content-length", b"%d" % len(content)))
        headers.append((b"x-request-id", record.id.encode()))
        if error is not None and (rest := application.intake.rest(self._head.caller.account.name)):
            loop = asyncio.get_running_loop()
            loop.call_later(rest, self._respond, self, record.status, headers, content)
        else:
            self._respond(self, record.status, headers, content)
        application.finish(record, monotonic() - self._begun)
        return error is None or error is outcome
