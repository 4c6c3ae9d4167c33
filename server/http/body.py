"""A request's body: read with limits on its size and time, and inflated step by step."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from wire import Malformed, Refused

SHORT = 2**18  # bytes; reading a longer body would hold up the event loop for milliseconds


# A compressed body has at most ROOM + RATIO * its own length bytes: inflating and checking 1 MiB takes some 5 ms.
ROOM = 2**22
RATIO = 32


class Body:
    """A body as it arrived; no more of it is inflated than is asked for.

    Attributes:
        received: Its bytes as they arrived, perhaps compressed.
    """

    def __init__(self, received: bytes, encoding: str = "identity") -> None:
        """Takes the bytes.

        Args:
            received: The bytes.
            encoding: Their ``Content-Encoding``.

        Raises:
            Refused: The encoding is unknown (415).
        """
        if encoding not in ("identity", "gzip", "deflate"):
            raise Refused(f"Content-Encoding {encoding}: expected gzip or deflate", status=415)
        self.received, self._encoding, self._rest = received, encoding, received
        self._inflate = (
            None
            if encoding == "identity"
            else zlib.decompressobj(wbits=zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))
        )
        self._plain = received if self._inflate is None else b""

    def __len__(self) -> int:
        """Returns how many bytes are held."""
        return len(self.received) + (0 if self._inflate is None else len(self._plain))

    @property
    def short(self) -> bool:
        """Whether reading it takes little time."""
        return self._inflate is None and len(self.received) <= SHORT

    def start(self, size: int) -> bytes:
        """Returns the first bytes after decompression, fewer if there are no more.

        Raises:
            Malformed: The compressed data is broken.
        """
        if self._inflate is not None and len(self._plain) < size:
            try:
                self._plain += self._inflate.decompress(self._rest, size - len(self._plain))
            except zlib.error as error:
                raise Malformed(f"the {self._encoding} data is broken: {error}") from None
            self._rest = self._inflate.unconsumed_tail
        return self._plain[:size]

    def read(self, most: int) -> bytes:
        """Returns all bytes after decompression.

        Raises:
            Refused: There are more than ``most`` (413), or far more than were received.
            Malformed: The compressed data is broken.
        """
        if self._inflate is not None:
            most = min(most, ROOM + RATIO * len(self.received))
        plain = self.start(most + 1)
        if len(plain) > most:
            after = "" if self._inflate is None else " after decompression; a longer one must be sent plain"
            raise Refused(f"the body has more than {most} bytes{after}", status=413)
        if self._inflate is not None and not self._inflate.eof:
            raise Malformed(f"the {self._encoding} data ends too early")
        if self._inflate is not None and self._inflate.unused_data:
            raise Malformed(
                f"{len(self._inflate.unused_data)} bytes stand behind the end of the {self._encoding} data; "
                "expected none"
            )
        return plain


async def read_body(
    headers: Mapping[bytes, bytes],
    receive: Receive,
    most: int,
    seconds: float,
    hold: Callable[[int], None] | None = None,
) -> Body:
    """Reads a body of at most ``most`` bytes as they arrive.

    The time counts from the body's first part; the listener cuts off a client that sends none.

    Args:
        headers: The request's headers.
        receive: Returns the body's parts.
        most: Most bytes to read.
        seconds: Most time to take.
        hold: Called with the number of bytes of each part, before the next is read.

    Raises:
        Refused: The body is too large (413), too late (408), or in an unknown encoding (415); or what ``hold``
            raises.
        ClientDisconnect: The client left before its body arrived.
    """
    announced = headers.get(b"content-length")  # the parser of the head has checked that it is a number
    if announced is not None and int(announced) > most:
        raise Refused(f"the body has {int(announced)} bytes; at most {most} are read", status=413)
    body, more = await _part(
        receive
    )  # all of it, as a rule; a timer would cost more than the rest of this function
    if hold is not None:
        hold(len(body))
    if more:
        try:
            async with asyncio.timeout(seconds):
                body = await _joined(body, receive, most, hold)
        except TimeoutError:
            raise Refused(f"the body did not arrive within {seconds:g} seconds", status=408) from None
    if len(body) > most:
        raise Refused(f"the body has more than {most} bytes", status=413)
    return Body(body, headers.get(b"content-encoding", b"identity").lower().decode("latin-1"))


async def _part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


async def _joined(first: bytes, receive: Receive, most: int, hold: Callable[[int], None] | None) -> bytes:
    parts, size, more = [first], len(first), True
    while more and size <= most:
        part, more = await _part(receive)
        parts.append(part)
        size += len(part)
        if hold is not None:
            hold(len(part))
    return b"".join(parts)
