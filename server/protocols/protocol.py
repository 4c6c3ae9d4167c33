"""A wire protocol reads requests about rows, writes answers, serves its other routes and documents itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

from fastapi import APIRouter
from starlette.types import Receive

from defenses.store import VersionConflict
from server.control.accounts import Account
from server.deployment.service import Service
from server.deployment.stack import Deployed
from server.deployment.values import check
from server.http.body import Body, read_body
from server.http.intake import Intake
from server.http.openapi import Operation
from server.http.request_record import RequestRecord
from server.protocols.rows import largest
from server.settings import Settings
from wire import Answer, Array, Card, Origin
from wire.ratelimit import Limits, answer_headers

Headers = list[tuple[bytes, bytes]]
JSON = (b"content-type", b"application/json")

_beside = ThreadPoolExecutor(1, thread_name_prefix="bodies")  # one, so that they take turns with the event loop

Route = tuple[str, str, str | None]
"""A route's template, as metrics and logs name it, and the model and the version that a path asks."""


class Asked(NamedTuple):
    """A request about rows.

    Attributes:
        x: The rows, ``(n, *input_shape)``; their values are still to be checked (:func:`checked`).
        id: The request's own id, if any.
        options: Whatever else the protocol needs to write the answer.
    """

    x: Array
    id: str | None
    options: Any = None


class WireProtocol(Protocol):
    """The module of a protocol.

    Its routes that carry rows do without a framework, so that such a request costs what its tensors cost.

    Attributes:
        router: Its other routes.
        operations: Its routes that carry rows, for the OpenAPI document.
    """

    router: APIRouter
    operations: Sequence[Operation]

    def match(self, parts: Sequence[str]) -> Route | None:
        """Returns the route that a path, split at its slashes, names; None if it does not carry rows."""
        ...

    def read(self, headers: Mapping[bytes, bytes], body: Body, card: Card, most_json: int) -> Asked:
        """Reads a request; what its head promises is checked before any value is read, and the values are not.

        Args:
            headers: Its headers, by their names in lower case.
            body: Its body.
            card: The model's card, as the account sees it.
            most_json: Most bytes of JSON.

        Raises:
            Malformed: It is not a request of the protocol, or its rows are not the model's.
            Refused: It has too many rows, or too much JSON (413).
        """
        ...

    def write(self, answer: Answer, card: Card, options: Any) -> tuple[Headers, bytes]:
        """Returns headers and body of an answer, given the request's options."""
        ...


class Target(NamedTuple):
    """A request's protocol, route and model.

    Attributes:
        protocol: The protocol.
        route: The route's template.
        model: Name of the model.
        version: Its version, if the path names one.
    """

    protocol: WireProtocol
    route: str
    model: str
    version: str | None


def find(path: str, protocols: Sequence[WireProtocol]) -> Target | None:
    """Returns what a path asks; None if it is not a route that carries rows."""
    parts = path.split("/")
    for protocol in protocols:
        if (route := protocol.match(parts)) is not None:
            return Target(protocol, *route)
    return None


def authorization(headers: Mapping[bytes, bytes]) -> str | None:
    """Returns a request's ``Authorization`` header."""
    given = headers.get(b"authorization")
    return None if given is None else given.decode("latin-1")


def most_bytes(deployed: Deployed, settings: Settings) -> int:
    """Returns how many bytes the body of a request about a model may have."""
    return min(settings.max_body, largest(deployed.card, settings.max_json))


def written(
    protocol: WireProtocol, deployed: Deployed, asked: Asked, answer: Answer, limits: Limits, record: RequestRecord
) -> tuple[Headers, bytes]:
    """Returns headers and body of the answer to a request, and completes the request's record."""
    headers, content = protocol.write(answer, deployed.card, asked.options)
    record.rows = len(answer.labels)
    return headers + answer_headers(limits), content


def checked(
    protocol: WireProtocol, headers: Mapping[bytes, bytes], body: Body, card: Card, most_json: int
) -> Asked:
    """Reads a request as :meth:`WireProtocol.read` does, and checks the values of its rows."""
    asked = protocol.read(headers, body, card, most_json)
    check(asked.x, card)
    return asked


async def answer(
    service: Service,
    intake: Intake,
    target: Target,
    headers: Mapping[bytes, bytes],
    receive: Receive,
    record: RequestRecord,
    origin: Callable[[Account], Origin | None],
) -> tuple[Headers, bytes]:
    """Answers a request about rows with headers and a body, and completes its record.

    Args:
        service: The service.
        intake: Counts what accounts make the server hold.
        target: What the request asks.
        headers: Its headers, by their names in lower case.
        receive: Receives its body.
        record: Its record.
        origin: Returns where it comes from, given its account.

    Raises:
        Refused: A defence or the server refuses it.
        Malformed: It is not a request of the protocol, or its rows are not the model's.
        ClientDisconnect: The client left before its body arrived.
    """
    protocol, _, model, version = target
    # Authenticate before reading the body, so that strangers cannot fill memory.
    caller = await service.authenticate(authorization(headers))
    record.account = caller.account.name
    settings = service.settings
    with intake.admit(caller.account.name) as held:
        deployed = service.deployed(caller.account, model, version)
        record.model = model
        most = most_bytes(deployed, settings)
        body = await read_body(headers, receive, most, settings.body_seconds, held.more)
        while True:
            if body.short:
                asked = held.read(checked, protocol, headers, body, deployed.card, settings.max_json)
            else:
                held.more(-len(body))
                asked = await asyncio.get_running_loop().run_in_executor(
                    _beside, held.read, checked, protocol, headers, body, deployed.card, settings.max_json
                )
                held.more(len(body))  # with what was inflated
            try:
                answered, limits = await service.ask(caller, deployed, asked.x, asked.id, origin(caller.account))
                break
            except VersionConflict:  # an administrator or another worker changed something meanwhile
                caller = await service.enter(authorization(headers))
                deployed = service.deployed(caller.account, model, version)
    return written(protocol, deployed, asked, answered, limits, record)
