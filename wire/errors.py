"""Errors between a client and a served model.

::

    WireError
    ├── Malformed      bytes that violate the protocol
    ├── Refused        the server declined to answer
    ├── BudgetSpent    the client's budget is too small; nothing was sent
    └── Unreachable    the server did not answer

:class:`BadInput` is separate: it reports an error in a file, an option or a configuration that a person supplied.
"""

from __future__ import annotations


class WireError(Exception):
    """Base class of the errors between a client and a served model."""


class Malformed(WireError):
    """The bytes violate the protocol; the message says what was wrong and what was expected."""


class Refused(WireError):
    """The server declined to answer this query.

    Attributes:
        status: HTTP status of the refusal: 429 for a limit that refills, 403 for one that never does.
        retry_after: Seconds after which the same query may pass; None if waiting does not help.
        left: Number of rows that would pass now; None if the server did not state it.
        policy: The limit that refused, as an item of the ``RateLimit-Policy`` header; None if no limit did.
    """

    def __init__(
        self,
        detail: str,
        *,
        status: int = 403,
        retry_after: float | None = None,
        left: int | None = None,
        policy: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.retry_after = retry_after
        self.left = left
        self.policy = policy


class BudgetSpent(WireError):
    """The client's own budget does not cover the query; nothing was sent."""


class Unreachable(WireError):
    """The server did not answer: it could not be reached, the connection broke, or the server failed."""


class BadInput(ValueError):
    """A person supplied something unusable; the message says what was wrong and what was expected."""
