"""The ledger of a model's marks in a store.

Each account has a chained log of its marks, and the model has one with the accounts and the commitments. All logs
are append-only. The ledger must stay private: it reveals which rows are marked.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import orjson
from cachetools import LRUCache

from defenses.store import Charge, Counter, Store
from defenses.watermarks.ledger.chain import Broken, Chain, Record
from defenses.watermarks.ledger.commitment import Commitment, Opening, account_hash, blinding_of, log_of, root_of
from defenses.watermarks.ledger.marks import Mark, WatermarkParameters
from wire import Array, BadInput

_HELD = 2**20  # marks whose digests a ledger caches, about 100 bytes each

State = list[list[Any]]
"""For each account, its name, and the length and last hash of its log."""


class MarkLedger:
    """The marks of a model.

    Attributes:
        parameters: The parameters of all marks; None until the ledger is begun or read.
    """

    def __init__(self, store: Store, model: str) -> None:
        """Makes the ledger of a model; reads nothing yet."""
        self._store, self._model = store, model
        self._index = Chain(store, f"marks/{model}", self._take)
        self.parameters: WatermarkParameters | None = None
        self._names: dict[str, None] = {}  # accounts in the order of their first marks
        self._held: LRUCache[str, _Account] = LRUCache(_HELD, lambda account: min(len(account.rows), _HELD))
        self._commitments: dict[str, _Committed] = {}  # by root
        self._last: tuple[str, State | None] = "", None  # root of the last commitment, and the state that it binds

    async def begin(
        self, parameters: WatermarkParameters, medians: Callable[[], Awaitable[Array]] | None = None
    ) -> WatermarkParameters:
        """Creates the ledger unless it exists; returns its parameters.

        Args:
            parameters: The parameters of all marks, without the medians.
            medians: Computes the medians, ``(units,)``, of a new ledger; None with the exact mapping.

        Raises:
            Broken: The ledger is inconsistent.
            BadInput: The ledger was made with other parameters.
        """
        await self._index.catch_up()
        if medians is not None:
            found = b"" if self.parameters else (await medians()).astype("<f4").tobytes()
            parameters = replace(parameters, medians=found.hex())
        await self._index.append(lambda: [] if self.parameters else [({"common": parameters.members}, b"")])
        assert self.parameters is not None
        now = parameters.fixed()
        for name, was in self.parameters.fixed().items():
            if was != now[name]:
                raise BadInput(
                    f"the marks of model {self._model} were made with {name} {was}, not {now[name]}, which is "
                    "fixed for the model's lifetime: serve the changed model under another name"
                )
        return self.parameters

    async def begun(self) -> WatermarkParameters | None:
        """Returns the parameters of the ledger; None if it does not exist.

        Raises:
            Broken: The ledger is inconsistent.
        """
        await self._index.catch_up()
        return self.parameters

    async def read(self) -> State:
        """Reads the whole ledger and returns the state of each account's log.

        Raises:
            Broken: The ledger is inconsistent.
        """
        await self._index.catch_up()
        state: State = []
        for name in list(self._names):
            account = self._account(name)
            await account.chain.catch_up()
            self._held[name] = account  # updates its size in the cache
            state.append([name, account.chain.length, account.chain.head])
        return state

    async def add(self, name: str, marks: Sequence[Mark]) -> None:
        """Registers marks of an account, each row once.

        Without a new mark it makes as many trips to the store, so that the time of an answer does not tell whether
        it is marked.

        Raises:
            Broken: The account's log is inconsistent.
            Refused: The store is unavailable (503).
        """
        if name not in self._names:
            await self._index.append(lambda: [] if name in self._names else [({"account": name}, b"")])
        account = self._account(name)

        def new() -> list[Record]:
            by_row = {_digest(mark.row): mark for mark in marks}
            return [mark.record for digest, mark in by_row.items() if digest not in account.rows]

        if not await account.chain.append(new):
            await self._store.probe()
            latest = Counter("unmarked", 0, refill=1.0, as_of=self._store.now())
            await self._store.charge(Charge(self._index.name, [latest]))
        self._held[name] = account

    async def commit(self, at: float) -> Commitment:
        """Commits to all marks at the time ``at``; returns the last commitment if there are no new marks.

        Raises:
            Broken: The ledger is inconsistent.
            BadInput: The model has no ledger.
        """
        state, salt = await self.read(), secrets.token_hex(32)
        root = root_of(self._parameters(), _hashes(state, salt))
        entry = {"root": root, "at": at, "salt": salt, "accounts": state}

        def new() -> list[Record]:
            last_root, last_state = self._last
            return [] if root == last_root or state == last_state else [(entry, b"")]

        await self._index.append(new)
        return self._commitments[root if root in self._commitments else self._last[0]].commitment

    async def open(self, name: str, root: str | None = None) -> Opening:
        """Returns the marks of an account that a commitment binds; by default, the last commitment.

        Raises:
            Broken: The ledger is inconsistent.
            BadInput: There is no such commitment, or it binds no marks of the account.
        """
        await self.read()
        if not self._commitments:
            raise BadInput(f"the marks of model {self._model} have no commitment yet: commit first")
        root = root or next(reversed(self._commitments))
        if root not in self._commitments:
            raise BadInput(f"there is no commitment {root} to the marks of model {self._model}")
        commitment, position, salt = self._commitments[root]
        if salt is None:
            raise BadInput(
                f"commitment {root} was made by an earlier version, and only that can open it: commit again"
            )
        entry = (await self._store.read(self._index.name, position)).entries[0]
        state: State = orjson.loads(entry.partition(b"\n")[0])["accounts"]
        marks = {account: length for account, length, _ in state}
        if not marks.get(name):
            raise BadInput(f"commitment {root} binds no marks of account {name!r}")
        opening = Opening(
            model=self._model,
            account=name,
            root=root,
            committed_at=commitment.at,
            parameters=self._parameters(),
            blinding=blinding_of(salt, name),
            accounts=_hashes(state, salt),
            entries=tuple((await self._store.read(log_of(self._model, name))).entries[: marks[name]]),
        )
        opening.verified()
        return opening

    def _take(self, members: dict[str, Any], _: bytes) -> None:
        match members:
            case {"common": parameters}:
                self.parameters = WatermarkParameters(**parameters)
            case {"account": name}:
                self._names[name] = None
            case {"root": root, "at": at, "accounts": state}:
                commitment = Commitment(root, at, sum(marks for _, marks, _ in state))
                salt = members.get("salt")  # earlier versions had none
                self._commitments[root] = _Committed(commitment, self._index.length - 1, salt)
                self._last = root, None if salt is None else state
            case _:
                raise Broken(f"{self._index.name}: an entry is of unknown kind")

    def _account(self, name: str) -> _Account:
        """Returns an account from the cache, or a new one that must read its log."""
        account = self._held.get(name) or _Account(self._store, log_of(self._model, name))
        self._held[name] = account
        return account

    def _parameters(self) -> bytes:
        if self.parameters is None:
            raise BadInput(f"model {self._model} has no ledger of marks")
        return orjson.dumps(self.parameters.members)


class _Committed(NamedTuple):
    """A commitment, the position of its entry in the model's log, and its salt in hexadecimal."""

    commitment: Commitment
    position: int
    salt: str | None


class _Account:
    """The log of an account's marks, and the digests of their rows."""

    def __init__(self, store: Store, log: str) -> None:
        self.rows: set[bytes] = set()
        self.chain = Chain(store, log, lambda _, row: self.rows.add(_digest(row)))


def _hashes(state: State, salt: str) -> tuple[str, ...]:
    """Returns the blinded hashes of all accounts, sorted."""
    return tuple(sorted(account_hash(name, marks, head, blinding_of(salt, name)) for name, marks, head in state))


def _digest(row: bytes) -> bytes:
    return hashlib.sha256(row).digest()
