"""The server's log on standard error: events, and in JSON also a line for every request.

It never holds a key, a row, a body or a query string. A request's line has the fields of :func:`access` and no
others. Of an unforeseen error the log shows the type and where it was raised, but not the message, which may quote
a row.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import traceback
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TypeAlias

import orjson

from server.http.request_record import RequestRecord

_Raised: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_sane = re.compile(rb"[A-Za-z0-9._-]{1,64}").fullmatch


def begin(form: Literal["text", "json"]) -> None:
    """Sends the events of this process to standard error, in a form for people or for machines."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Text() if form == "text" else _Json())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def request_id(given: bytes | None) -> str:
    """Returns a request's id: its ``X-Request-Id`` if that is short and plain, or a new random one."""
    if given is not None and _sane(given):
        return given.decode()
    return next(_new)


def _ids() -> Iterator[str]:
    """Yields random ids after a name of this process; a counter would disclose the traffic."""
    process = secrets.token_hex(4)
    while True:
        drawn = secrets.token_hex(8 * 256)  # at once, since each draw is a call of the kernel
        for at in range(0, len(drawn), 16):
            yield f"{process}-{drawn[at : at + 16]}"


_new = _ids()


def access(record: RequestRecord, seconds: float) -> None:
    """Writes the line of an answered request, in JSON.

    Args:
        record: The request.
        seconds: How long it took.
    """
    line = {
        "time": datetime.now(UTC),
        "level": "info" if record.status < 500 else "error",
        "request": record.id,
        "route": record.route,
        "status": record.status,
        "milliseconds": round(seconds * 1e3, 3),
        "account": record.account,
        "model": record.model,
        "rows": record.rows,
        "reason": record.reason,
    }
    # One write per line, since workers share the pipe; a pipe that nobody reads fails no request.
    with suppress(OSError):
        os.write(2, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


class _Text(logging.Formatter):
    """An event for people."""

    def formatException(self, ei: _Raised) -> str:
        """Returns an error's type, and where it was raised."""
        kind, _, where = ei
        return "".join(traceback.format_tb(where)) + (kind.__name__ if kind else "")


class _Json(_Text):
    """An event for machines, in the form of the requests' lines."""

    def format(self, record: logging.LogRecord) -> str:
        """Writes an event as one line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()
