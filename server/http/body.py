"""A request's body, read with limits on its size and time."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from wire import Malformed, Refused


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, most: int, seconds: float) -> bytes:
    """Reads a body of at most ``most`` bytes, before and after decompression.

    The time counts from the body's first part; the listener cuts off a client that sends none.

    Raises:
        Refused: The body is too large (413), too late (408), or in an unknown encoding (415).
        Malformed: The compressed data is broken.
        ClientDisconnect: The client left before its body arrived.
    """
    announced = headers.get(b"content-length")  # the parser of the head has checked that it is a number
    if announced is not None and int(announced) > most:
        raise Refused(f"the body has {int(announced)} bytes; at most {most} are read", status=413)
    body, more = await _part(
        receive
    )  # all of it, as a rule; a timer would cost more than the rest of this function
    if more:
        try:
            async with asyncio.timeout(seconds):
                body = await _joined(body, receive, most)
        except TimeoutError:
            raise Refused(f"the body did not arrive within {seconds:g} seconds", status=408) from None
    if len(body) > most:
        raise Refused(f"the body has more than {most} bytes", status=413)
    encoding = headers.get(b"content-encoding", b"identity").lower()
    return body if encoding == b"identity" else _inflated(body, encoding.decode("latin-1"), most)


async def _part(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    return message.get("body", b""), message.get("more_body", False)


async def _joined(first: bytes, receive: Receive, most: int) -> bytes:
    parts, size, more = [first], len(first), True
    while more and size <= most:
        part, more = await _part(receive)
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _inflated(body: bytes, encoding: str, most: int) -> bytes:
    if encoding not in ("gzip", "deflate"):
        raise Refused(f"Content-Encoding {encoding}: expected gzip or deflate", status=415)
    try:
        inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | (16 if encoding == "gzip" else 0))
        body = inflate.decompress(body, most)
    except zlib.error as error:
        raise Malformed(f"the {encoding} data is broken: {error}") from None
    if inflate.unconsumed_tail:
        raise Refused(f"the body has more than {most} bytes after decompression", status=413)
    if not inflate.eof:
        raise Malformed(f"the {encoding} data ends too early")
    if inflate.unused_data:
        raise Malformed(
            f"{len(inflate.unused_data)} bytes stand behind the end of the {encoding} data; expected none"
        )
    return body
