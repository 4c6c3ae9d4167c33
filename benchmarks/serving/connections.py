"""A load generator's connections: each sends requests of its own in turn and hands every answer to its client."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol, cast

import httptools


class Client(Protocol):
    """The receiver of answers."""

    def answered(self, connection: Connection) -> None:
        """A request was answered; the connection is free."""
        ...

    def refused(self, connection: Connection, kind: str, body: str) -> None:
        """A request was answered by an error; the connection is free."""
        ...

    def failed(self, kind: str, message: str) -> None:
        """A connection answers no more."""
        ...

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        ...


class Connection(Protocol):
    """A connection to a server, which tells its client of every answer."""

    async def open(self, host: str, port: int) -> None:
        """Connects; raises :class:`OSError` if it cannot."""
        ...

    def send(self) -> None:
        """Sends its next request."""
        ...

    def close(self) -> None:
        """Closes the connection."""
        ...


class HttpConnection(asyncio.Protocol):
    """Sends requests in turn over HTTP/1.1."""

    def __init__(self, client: Client, requests: Sequence[bytes]) -> None:
        """Takes the client and the bytes of the requests."""
        self._client, self._requests, self._at = client, requests, -1
        self._transport: asyncio.WriteTransport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""

    async def open(self, host: str, port: int) -> None:
        """Connects."""
        await asyncio.get_running_loop().create_connection(lambda: self, host, port)

    def send(self) -> None:
        """Sends the next request."""
        if self._transport is not None and not self._transport.is_closing():
            self._at = (self._at + 1) % len(self._requests)
            self._transport.write(self._requests[self._at])

    def close(self) -> None:
        """Closes the connection."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the transport."""
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        """Parses a part of an answer."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._client.failed("no HTTP", str(error))
            self.close()

    def on_body(self, part: bytes) -> None:
        """Keeps the beginning of an answer, for the report of errors."""
        self._body = self._body or part[:500]

    def on_message_complete(self) -> None:
        """Tells the client of an answer."""
        status, body, self._body = self._parser.get_status_code(), self._body, b""
        if status == 200:
            self._client.answered(self)
        else:
            self._client.refused(self, str(status), body.decode(errors="replace"))

    def connection_lost(self, error: Exception | None) -> None:
        """Counts a connection that the server closed."""
        if self._transport is not None and not self._client.over:
            self._client.failed("lost", str(error or ""))
