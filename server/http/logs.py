"""What the server writes to standard error: events, and in JSON also a line for every request.

Never a key, a row, a body or a query string: a request's line holds the fields of :func:`access` and no others; of
an unforeseen error the log tells the type and where it was raised, but not the message, which may quote a row.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import secrets
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TypeAlias

import orjson

_Raised: TypeAlias = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_made = map(f"{secrets.token_hex(4)}-{{:x}}".format, itertools.count(1))
_sane = re.compile(rb"[A-Za-z0-9._-]{1,64}").fullmatch


def begin(form: Literal["text", "json"]) -> None:
    """Sends the events of this process to standard error, in a form for people or for machines."""
    handler = logging.StreamHandler()
    handler.setFormatter(_Text() if form == "text" else _Json())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def request_id(given: bytes | None) -> str:
    """Returns a request's id: its ``X-Request-Id`` if that is short and plain, or a new one."""
    if given is not None and _sane(given):
        return given.decode()
    return next(_made)


def access(
    request: str,
    route: str,
    status: int,
    seconds: float,
    *,
    account: str | None = None,
    model: str | None = None,
    rows: int | None = None,
    reason: str | None = None,
) -> None:
    """Writes the line of a request, in JSON.

    Args:
        request: Its id.
        route: The template of its route.
        status: The HTTP status of its answer.
        seconds: How long it took.
        account: The name of the account whose key it held, once that is known.
        model: The model that it asked, once it is known that there is one.
        rows: How many rows were answered.
        reason: What refused it.
    """
    line = {
        "time": datetime.now(UTC),
        "level": "info" if status < 500 else "error",
        "request": request,
        "route": route,
        "status": status,
        "milliseconds": round(seconds * 1e3, 3),
        "account": account,
        "model": model,
        "rows": rows,
        "reason": reason,
    }
    # One write for a line: several workers share the pipe, and nothing is lost when one is killed. Where nobody
    # reads it, that is no reason to fail the request.
    with suppress(OSError):
        os.write(2, orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


class _Text(logging.Formatter):
    """An event for people."""

    def formatException(self, ei: _Raised) -> str:
        """Tells an error's type, and where it was raised."""
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
