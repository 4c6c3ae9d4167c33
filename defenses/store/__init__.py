"""Where defences and accounts keep their state: counters, receipts and append-only logs.

A store is named by a URL: ``sqlite:///PATH`` (``sqlite://`` alone keeps everything in memory) or
``redis://HOST:PORT/N``.
"""

from __future__ import annotations

from defenses.microbatch import Observe
from defenses.store.counters import EMPTIES, Charge, Counter, Level, Verdict
from defenses.store.sqlite import SQLiteStore
from defenses.store.store import CONTROL, LogSlice, Store, VersionConflict
from wire import BadInput

__all__ = [
    "CONTROL",
    "EMPTIES",
    "Charge",
    "Counter",
    "Level",
    "LogSlice",
    "SQLiteStore",
    "Store",
    "Verdict",
    "VersionConflict",
    "open_store",
]


def open_store(url: str, observe: Observe | None = None) -> Store:
    """Opens the store that a URL names.

    Args:
        url: The URL.
        observe: Called after each round trip with its seconds, and with the number of charges that shared it.

    Raises:
        BadInput: The URL names no known kind of store.
    """
    kind, _, rest = url.partition("://")
    if kind == "sqlite":
        return SQLiteStore(rest.removeprefix("/") or ":memory:", observe)
    if kind in ("redis", "rediss", "unix"):
        from defenses.store.redis import RedisStore  # here, since only a server needs redis installed

        return RedisStore(url, observe)
    raise BadInput(f"store {url!r}: expected sqlite:///PATH or redis://HOST:PORT/N")
