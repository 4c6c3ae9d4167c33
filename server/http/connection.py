"""A connection of a client: uvicorn's, with limits on clients and a short way for plain requests about rows.

uvicorn bounds neither the time nor the size of a request's head, nor the time for which an answer stays unread.
And it runs a task for each request, which costs more than a row's forward pass.
"""

from __future__ import annotations

import socket
import struct
from typing import Any, cast

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from server.http.application import Application
from server.http.exchange import Exchange, Head
from server.protocols.protocol import Headers
from server.settings import Settings

_PIPELINED = 32  # requests of a connection that may wait for the answer to an earlier one
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_LATE = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Parser(httptools.HttpRequestParser):
    """A parser that ignores offers to switch the protocol, which Java's HttpClient and ``curl --http2`` send.

    After such a head, httptools takes the rest for the other protocol. So it gets the head again, without the
    offer.
    """

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._connection = connection

    def feed_data(self, data: Any) -> None:
        """Reads on."""
        while True:
            try:
                super().feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                data = self._connection.head() + data[offer.args[0] :]
            else:
                return


class Connection(HttpToolsProtocol):
    """A connection that is cut when its client exceeds the limits of the settings.

    The server checks all connections once a second (:meth:`overdue`): a timer for every request would cost more
    than reading its head.

    A plain request about rows is an :class:`Exchange`, whose answer is written at once. Every other request goes
    its way through ASGI; so does one that comes before an earlier one was answered.
    """

    def __init__(self, application: Application, limits: Settings, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._application = application
        self.parser = Parser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._limits = limits
        self._begun: float | None = self.loop.time()  # of the message under way; None between two
        self._in_head = True
        self._received = 0  # bytes of that message
        self._framing = 0  # bytes of it since its last part of a body: a head, or trailers
        self._unread: float | None = None  # since when a part of an answer has been unread
        self._idle = self._begun  # since when there has been no request, if there is none
        self._answering: RequestResponseCycle | Exchange | None = None  # the first request that was not answered
        self._plain: Exchange | None = None  # the same, if it is a plain one whose body has not arrived yet
        self._head: Head | None = None  # of the last plain request
        self._start = b""  # the same as it was sent, if the request came in one piece
        self._messages = 0  # that began in the data received last

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: D102
        if self._plain is not None:
            self._plain.leave()
        self._plain = None
        self._leave()
        super().connection_lost(exc)

    def _leave(self) -> None:
        """Lets nothing more be written; uvicorn sees to that for its last request only, not for pipelined ones."""
        if self._answering is not None:
            self._answering.disconnected = True

    def data_received(self, data: bytes) -> None:  # noqa: D102
        repeated = self._repeated(data)
        if repeated is not None:  # parsing its head would cost more than the rest of this connection's work
            self._answering = self.cycle = cast(Any, repeated)
            self._unread = None
            repeated.receive(data[len(self._start) :])
            repeated.begin()
            return
        between, self._messages = self._begun is None, 0
        self._received += len(data)
        self._framing = len(data) if self._begun is None else self._framing + len(data)
        super().data_received(data)
        if self._framing > self._limits.max_head and self._begun is not None:
            self.send_400_response("")
        if between and self._messages == 1 and self._begun is None and self._head is not None:
            end = data.find(b"\r\n\r\n") + 4
            self._start = data[:end] if end + self._head.length == len(data) else b""

    def on_message_begin(self) -> None:  # noqa: D102  # as in httptools
        super().on_message_begin()
        self._messages += 1
        self._begun, self._in_head, self._unread = self.loop.time(), True, None

    def on_headers_complete(self) -> None:  # noqa: D102
        if self._received > self._limits.max_head:  # the head, or with it a part of the body
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > self._limits.max_head:
                raise ValueError(f"a head of {size} bytes")  # the parser stops, and uvicorn answers 400
        for name, value in self.headers:
            if name == b"transfer-encoding" and value.lower() != b"chunked":
                raise ValueError(f"transfer encoding {value!r}")
        if len(self.pipeline) >= _PIPELINED:  # thousands fit in a packet, and would be parsed in one turn
            raise ValueError("too many requests at once")
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("no proxy")
            return  # the head will be parsed again
        self._in_head = False
        self._plain = self._exchange()
        if self._plain is not None:
            self._answering = self.cycle = cast(Any, self._plain)
        else:
            self._head = None
            super().on_headers_complete()
            self.headers = []  # not the application's list: trailers that follow are dropped

    def _exchange(self) -> Exchange | None:
        """Returns the exchange of a plain request, given its head; None for any other."""
        parser, application, head = self.parser, self._application, self._head
        if not self._free() or parser.get_method() != b"POST" or parser.get_http_version() != "1.1":
            return None
        if head is None or (head.url, head.given) != (self.url, self.headers) or not head.holds(application):
            self._head = head = Head.read(application, self.url, self.headers, self.client)
            self._start = b""
        if head is None:
            return None
        return Exchange(application, head, self._respond, keep_alive=parser.should_keep_alive())

    def _free(self) -> bool:
        """Returns whether an answer can be written next."""
        return (self.cycle is None or self.cycle.response_complete) and not self.flow.write_paused

    def _repeated(self, data: bytes) -> Exchange | None:
        """Returns the exchange of a whole plain request that repeats the last head, byte for byte."""
        head, start = self._head, self._start
        if head is None or self._begun is not None or len(data) != len(start) + head.length:
            return None
        if not start or not data.startswith(start) or not self._free() or not head.holds(self._application):
            return None
        return Exchange(self._application, head, self._respond, keep_alive=True)

    def on_body(self, body: bytes) -> None:  # noqa: D102
        self._framing = 0
        if self._plain is not None:
            self._plain.receive(body)
        elif not self.parser.should_upgrade():
            super().on_body(body)

    def on_message_complete(self) -> None:  # noqa: D102
        if self.parser.should_upgrade():
            return
        self._begun, self._received, self._framing = None, 0, 0
        if self._plain is None:
            super().on_message_complete()
        else:
            plain, self._plain = self._plain, None
            plain.begin()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:  # noqa: D102
        if self.pipeline:
            super().on_response_complete()
        elif not self.transport.is_closing():
            self.flow.resume_reading()
            self._idle = self.loop.time()  # in place of uvicorn's timer, which costs more than an answer's head

    def _respond(self, plain: Exchange, status: int, headers: Headers, body: bytes) -> None:
        """Writes the whole answer to a plain request at once."""
        plain.response_started = plain.response_complete = True
        if plain.disconnected or self.transport.is_closing():
            return
        end = not plain.keep_alive or self._application.draining
        if end:
            headers.append((b"connection", b"close"))
        lines = b"\r\n".join(map(b": ".join, (*self.server_state.default_headers, *headers)))
        self.transport.write(b"%s%s\r\n\r\n%s" % (STATUS_LINE[status], lines, body))
        if end:
            self.transport.close()
        self.on_response_complete()

    def head(self) -> bytes:
        """Returns the head that was read, without the offer to switch the protocol."""
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def send_400_response(self, msg: str) -> None:
        """Answers an invalid request, unless an earlier one is being answered, and closes."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._leave()
            self.transport.abort()
        elif self._in_head and self._received > self._limits.max_head:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        else:
            super().send_400_response(msg)

    def cut(self) -> None:
        """Ends the connection, with a 408 if a request is under way that has no answer yet.

        If an answer stays unread, or if that does not end it, the kernel drops what it holds for the connection:
        closing alone would leave it an answer to deliver.
        """
        if self._begun is None and self._unread is None:
            self.transport.close()
            return
        if self._begun is not None and self._received and self._unanswered() and not self.transport.is_closing():
            self.transport.write(_LATE)
            self.transport.close()
            return
        end = self.transport.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._leave()
        self.transport.abort()

    def _unanswered(self) -> bool:
        if self.pipeline:
            return False
        if self.cycle is None:
            return True
        return self.cycle.response_complete if self._in_head else not self.cycle.response_started

    def overdue(self, now: float) -> bool:
        """Returns whether the client's time is up: for a head, a message, an answer, or the next request."""
        limits = self._limits
        if self._begun is not None:
            allowed = limits.head_seconds + (0 if self._in_head else limits.body_seconds)
            if now - self._begun > allowed or self._received > limits.max_head + 2 * limits.max_body:
                return True
        if not self.transport.get_write_buffer_size():
            self._unread = None
        elif self._unread is None:
            self._unread = now
        if self._unread is not None:
            return now - self._unread > limits.read_seconds
        answered = self.cycle is not None and self.cycle.response_complete
        return self._begun is None and answered and now - self._idle > limits.head_seconds
