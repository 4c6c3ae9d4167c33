"""Limits on the bytes in flight and on the refused requests, for each account and for all together."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, perf_counter, process_time
from types import TracebackType
from typing import ParamSpec, TypeVar

from server.settings import Settings
from wire import Malformed, Refused

P = ParamSpec("P")
T = TypeVar("T")

STRANGERS = ""
"""In the place of an account's name: all clients together whose requests carry no valid key."""
REST = 1.0
"""Seconds for which a refusal is held back, once too many requests of an account were refused. A client that waits
for its answers cannot send refused requests as fast as they cost little."""


class TooOften(Refused):
    """Too many requests of an account were refused (429); this one does not count as another."""


class Intake:
    """Counts the bytes of bodies in flight, and the requests that are refused.

    A request that is refused costs its account neither rows nor money, so each account may have only so many of
    them: a bucket that refills, in the memory of this process.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = monotonic) -> None:
        """Holds nothing yet.

        Args:
            settings: The server's settings.
            clock: Returns the time, in seconds.
        """
        self._settings, self._clock = settings, clock
        self._held: dict[str, int] = {}
        self._all = 0
        self._full_at: dict[str, float] = {}  # when the bucket of an account will be full again
        self._processor = process_time()  # at the last refusal

    def admit(self, account: str) -> Held:
        """Admits a request of an account.

        Returns:
            A context manager around all that is done for the request.

        Raises:
            TooOften: Too many of the account's requests were refused.
        """
        self.expect(account)
        return Held(self, account)

    def expect(self, account: str) -> None:
        """Raises :class:`TooOften` if too many of an account's requests were refused."""
        if (wait := self._wait(account)) > 0:
            settings = self._settings
            raise TooOften(
                f"too many requests of this account were refused; after {settings.refusals_burst} of them, "
                f"{settings.refusals_per_second:g} a second are read",
                status=429,
                retry_after=wait,
            )

    def rest(self, account: str) -> float:
        """Returns the seconds for which a refusal of an account's request is to be held back."""
        return REST if self._wait(account) > 0 else 0.0

    def _wait(self, account: str) -> float:
        """Returns the seconds until a request of an account may be refused again; not positive if it may now."""
        if (full_at := self._full_at.get(account)) is None:
            return 0.0
        settings = self._settings
        return full_at - self._clock() - (settings.refusals_burst - 1) / settings.refusals_per_second

    def refused(self, account: str, spent: float = 0.0) -> None:
        """Counts a request of an account that was refused after so many seconds.

        One that took several milliseconds of a processor counts as so many, so that few accounts cannot keep a
        processor busy. Those that passed while others had the processor do not count: no refusal took more than
        this process has had since the last one. To ask for that at every request would cost as much as its charge.
        """
        processor = process_time()
        spent, self._processor = min(spent, processor - self._processor), processor
        now, count = self._clock(), max(1, int(spent * 1000))
        full_at = max(self._full_at.get(account, now), now)
        self._full_at[account] = full_at + count / self._settings.refusals_per_second

    def hold(self, account: str, size: int) -> None:
        """Counts bytes that an account makes the server hold.

        Raises:
            Refused: The account holds too many (429), or all accounts together (503).
        """
        settings = self._settings
        held = self._held[account] = self._held.get(account, 0) + size
        self._all += size
        if held > settings.account_bodies:
            raise Refused(
                f"the account's requests in flight hold more than {settings.account_bodies} bytes; send fewer at "
                "a time",
                status=429,
                retry_after=1,
            )
        if self._all > settings.all_bodies:
            raise Refused(
                f"all requests in flight hold more than {settings.all_bodies} bytes", status=503, retry_after=1
            )

    def release(self, account: str, size: int) -> None:
        """Counts bytes that are no longer held."""
        self._all -= size
        left = self._held.pop(account, 0) - size
        if left:
            self._held[account] = left


class Held:
    """The bytes that one request holds until its block ends; a refusal that leaves the block is counted."""

    __slots__ = ("_account", "_intake", "_size", "_spent")

    def __init__(self, intake: Intake, account: str) -> None:
        self._intake, self._account, self._size, self._spent = intake, account, 0, 0.0

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.end(error)

    def end(self, error: BaseException | None) -> None:
        """Ends the block with an error, or without."""
        self._intake.release(self._account, self._size)
        if error is None or isinstance(error, TooOften):
            return
        if isinstance(error, Malformed) or (isinstance(error, Refused) and error.status < 500):
            self._intake.refused(self._account, self._spent)

    def more(self, size: int) -> None:
        """Counts further bytes, or raises :class:`~wire.Refused` (429 or 503)."""
        self._size += size
        self._intake.hold(self._account, size)

    def read(self, read: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """Calls what reads the body, unless too many of the account's requests were refused since this one came.

        Raises:
            TooOften: They were.
        """
        self._intake.expect(self._account)
        begun = perf_counter()
        try:
            return read(*args, **more)
        finally:
            self._spent += perf_counter() - begun
