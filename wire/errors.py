"""Everything that can go wrong on the wire.

::

    WireError
    ├── Malformed      bytes that are not of the protocol
    ├── Refused        the server will not answer
    ├── BudgetSpent    the client has no rows left; nothing was sent
    └── Unreachable    no answer came

Beside it stands :class:`BadInput`, for what a person gave: a file, an option, a configuration.
"""

from __future__ import annotations


class WireError(Exception):
    """Whatever goes wrong between a client and a served model."""


class Malformed(WireError):
    """The bytes are not of the protocol; the message says what was wrong and what would be right."""


class Refused(WireError):
    """The server will not answer this query.

    Attributes:
        status: The HTTP status that says so: 429 for a limit that refills, 402 for money spent.
        retry_after: Seconds after which the same query may pass; None if waiting does not help.
        left: Rows that would pass now; None if the server did not say.
        policy: The limit that refused, as an item of the ``RateLimit-Policy`` header; None if there is none.
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
    """No answer came: no connection, a broken one, or a server that failed."""


class BadInput(ValueError):
    """Something that a person gave cannot be used; the message says what was wrong and what would be right."""
