"""Answers together what arrives in one turn of the event loop: one charge, one pass, one change of the answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import numpy as np

from defenses.admission.admission import Bill
from defenses.admission.price import Usage
from defenses.reactions.alarm import StandingAlarm, refused
from defenses.store import Store
from defenses.store.counters import Charge
from server.deployment.stack import Deployed
from server.deployment.values import check
from wire import Answer, Array, Malformed, Query, Refused
from wire.ratelimit import Limits

log = logging.getLogger(__name__)

_FEW = 2**15  # bytes of rows; to join more would cost more than to check them alone


class Reply(NamedTuple):
    """The outcome of a query that was answered.

    Attributes:
        answer: The answer.
        limits: The state in which it left the limits.
        charge: What was charged for it.
    """

    answer: Answer
    limits: Limits
    charge: Charge


class Asking(NamedTuple):
    """A query that waits for its answer.

    Attributes:
        query: The query.
        deployed: The model, as its account meets it.
        alarms: The account's alarms at the model.
        position: The position of the control log at which both were read.
        done: Takes the outcome, and notes in the store what was answered; returns whether somebody still waits
            for it, else the charge is refunded.
        usage: The tokens of its texts, where these are billed in place of rows.
        checked: Whether the values of its rows were checked.
    """

    query: Query
    deployed: Deployed
    alarms: Sequence[StandingAlarm]
    position: int
    done: Callable[[Reply | Exception], bool]
    usage: Usage | None = None
    checked: bool = True

    def tell(self, outcome: Reply | Exception) -> bool:
        """Hands over the outcome; what fails then is this query's alone, and its charge stands."""
        try:
            return self.done(outcome)
        except Exception:
            log.exception("an outcome could not be handed over")
            return True


class _Admitted(NamedTuple):
    asking: Asking
    bill: Bill
    limits: Limits


class Turns:
    """Gathers the queries of each turn, and answers them.

    All are charged in one step of the store. Those to one victim behind layers that change each row by itself
    share passes, and each layer changes all rows of a pass at once. Any other goes through its layers alone. An
    alarm that was raised meanwhile refuses an answer that has not left.
    """

    def __init__(
        self, store: Store, standing: Callable[[str, str], Sequence[StandingAlarm]], account_rows: int
    ) -> None:
        """Answers nothing yet.

        Args:
            store: The store of the counters.
            standing: Returns the alarms of an account at a model; the same object until one is raised or cleared.
            account_rows: Most rows that an account may have in flight; a lone request may have more.
        """
        self._store, self._standing, self._most = store, standing, account_rows
        self._rows: dict[str, int] = {}  # in flight, by account
        self._waiting: list[Asking] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, asking: Asking) -> None:
        """Answers a query together with all others of this turn."""
        if not self._waiting:
            self._start(self._turn())
        self._waiting.append(asking)

    async def close(self) -> None:
        """Refuses and refunds what is still to be answered."""
        while self._tasks:  # some start others
            await asyncio.sleep(0)  # a task that is cancelled before its first step tells nobody
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _turn(self) -> None:
        turn, self._waiting = self._waiting, []
        passes = _passes(await self._admitted(_fitting(turn)))
        for several in passes[1:]:
            self._start(self._answer(several))
        if passes:
            await self._answer(passes[0])

    async def _admitted(self, turn: Sequence[Asking]) -> list[_Admitted]:
        """Charges the queries of a turn, and tells those that are refused."""
        billed: list[tuple[Asking, Bill]] = []
        for asking in turn:
            if (crowd := self._enter(asking)) is not None:
                asking.tell(crowd)
                continue
            try:
                bill = asking.deployed.admission.bill(asking.query, asking.alarms, asking.position, asking.usage)
            except Exception as error:
                self._leave(asking, error)
            else:
                billed.append((asking, bill))
        try:
            verdicts = await self._store.charge_all([bill.charge for _, bill in billed])
        except (Exception, asyncio.CancelledError) as error:
            for asking, _ in billed:
                self._leave(asking, error if isinstance(error, Exception) else closing())
            if not isinstance(error, Exception):
                raise
            return []
        admitted = []
        for (asking, bill), verdict in zip(billed, verdicts, strict=True):
            try:
                admitted.append(_Admitted(asking, bill, bill.limits(verdict)))
            except Exception as error:
                self._leave(asking, error)
        return admitted

    def _enter(self, asking: Asking) -> Refused | None:
        """Counts the rows of a query that comes in; returns the refusal if its account has too many."""
        account, n = asking.query.account, len(asking.query.x)
        held = self._rows.get(account, 0)
        if held and held + n > self._most:
            return Refused(
                f"the account has {held} rows in flight; with {n} more, it would have more than {self._most}",
                status=429,
                retry_after=1,
            )
        self._rows[account] = held + n
        return None

    def _leave(self, asking: Asking, outcome: Reply | Exception) -> bool:
        """Tells an outcome; returns whether somebody still waits for it."""
        account = asking.query.account
        left = self._rows[account] - len(asking.query.x)
        if left:
            self._rows[account] = left
        else:
            del self._rows[account]
        return asking.tell(outcome)

    async def _answer(self, admitted: Sequence[_Admitted]) -> None:
        """Answers queries that share a pass; if that fails, each alone, since one may be to blame for it."""
        together = admitted[0].asking.deployed.together
        if len(admitted) == 1 or together is None:
            await self._alone(admitted[0])
            return
        rows = [one.asking.query.x for one in admitted]
        try:
            answer = await together(np.concatenate(rows))
        except Exception as error:
            log.warning("%d queries that failed together are answered alone: %s", len(rows), type(error).__name__)
            for one in admitted:
                self._start(self._alone(one))
            return
        except asyncio.CancelledError:
            for one in admitted:
                await self._fail(one, closing())
            raise
        at = 0
        for one, x in zip(admitted, rows, strict=True):
            await self._tell(one, answer[at : at + len(x)])
            at += len(x)

    async def _alone(self, one: _Admitted) -> None:
        query, deployed, alarms, *_ = one.asking
        try:
            answer = await deployed.reaction.around(alarms)(query)
        except Exception as error:
            await self._fail(one, error)
        except asyncio.CancelledError:
            await self._fail(one, closing())
            raise
        else:
            await self._tell(one, answer)

    async def _tell(self, one: _Admitted, answer: Answer) -> None:
        asking = one.asking
        standing = self._standing(asking.query.account, asking.deployed.card.model)
        if standing is not asking.alarms:
            new = [alarm for alarm in standing if alarm.reaction == "refuse" and alarm not in asking.alarms]
            if new:
                await self._fail(one, refused(new[0].model))
                return
        if not self._leave(asking, Reply(answer, one.limits, one.bill.charge)):
            await self._store.refund(one.bill.charge)

    async def _fail(self, one: _Admitted, error: Exception) -> None:
        await self._store.refund(one.bill.charge)
        self._leave(one.asking, error)


def _fitting(turn: Sequence[Asking]) -> Sequence[Asking]:
    """Returns the queries whose values fit their model, and tells the others.

    Few rows of one model are checked at once: numpy takes about as long for one row as for many.
    """
    unchecked: dict[int, list[Asking]] = {}
    for asking in turn:
        if not asking.checked:
            shared = asking.deployed if asking.query.x.nbytes < _FEW else asking
            unchecked.setdefault(id(shared), []).append(asking)
    unfit: set[int] = set()
    for several in unchecked.values():
        try:
            check(_joined([asking.query.x for asking in several]), several[0].deployed.card)
        except Malformed:
            unfit |= {id(asking) for asking in several if not _fits(asking)}
    return [asking for asking in turn if id(asking) not in unfit] if unfit else turn


def _fits(asking: Asking) -> bool:
    """Returns whether a query's values fit its model, else tells it."""
    try:
        check(asking.query.x, asking.deployed.card)
    except Malformed as misfit:
        asking.tell(misfit)
        return False
    return True


def _joined(parts: Sequence[Array]) -> Array:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _passes(admitted: Sequence[_Admitted]) -> list[list[_Admitted]]:
    """Divides queries into those that share a pass; one that goes alone is one of them."""
    passes: list[list[_Admitted]] = []
    begun: dict[int, tuple[list[_Admitted], int]] = {}  # by the model as accounts meet it: a pass, and its rows
    for one in admitted:
        deployed, n = one.asking.deployed, len(one.asking.query.x)
        shared, rows = begun.get(id(deployed), ([], 0))
        if one.asking.alarms or deployed.together is None:
            passes.append([one])
            continue
        if not shared or rows + n > deployed.pass_rows:
            shared, rows = [], 0
            passes.append(shared)
        shared.append(one)
        begun[id(deployed)] = shared, rows + n
    return passes


def closing() -> Refused:
    """Returns the refusal of whoever asks a server that ends."""
    return Refused("the server is closing; ask again, and another may answer", status=503, retry_after=1)
