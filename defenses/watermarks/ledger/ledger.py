"""The register of marks: what each account was told falsely, in logs that only grow, and what commits to them.

The entries of a log are chained: each names the hash of the one before. The store also keeps how long each log has
been at least, so that one that lost its end is found too. The commitment is the root of a Merkle tree as in
Certificate Transparency (Laurie, Langley, Kasper, RFC 6962, 2013, section 2.1). It has a leaf for what all marks
of a model have in common and one for each account, with the length of its log and the hash of its last entry. So
it binds every mark and how many there are: who shows the marks of an account can leave none out.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
import orjson
import pydantic

from defenses.answers.row_noise import canonical
from defenses.store import Charge, Counter, Store, VersionConflict
from wire import Array, BadInput

_LENGTH = "length"  # the meter whose mark is the length that a log has at least
_HELD = 2**20  # marks of which a register keeps digests, of about 100 bytes each

_EXAMPLE: dict[str, Any] = {
    "model": "victim",
    "account": "alice",
    "root": "9f2c...",
    "committed_at": 1763733600.0,
    "common": "eyJtb2RlbCI6InZpY3RpbSIsLi4ufQ==",
    "common_proof": {"index": 0, "size": 2, "path": ["41b0..."]},
    "account_proof": {"index": 1, "size": 2, "path": ["77e3..."]},
    "entries": ["eyJwcmV2aW91cyI6Ii4uLiJ9Cg=="],
}


class Broken(BadInput):
    """A register does not hold together: a part of it was changed or is lost."""


@dataclass(frozen=True)
class WatermarkParameters:
    """What all marks of a model have in common, for its life.

    Attributes:
        model: Name of the model.
        rate: Share of the rows that are marked.
        classes: Number of classes.
        key: SHA-256 of the marks' key, in hexadecimal.
        victim: SHA-256 of the victim's weights, in hexadecimal.
        medians: Those of the victim's inner layer, float32 in hexadecimal; None where each row is its own mapping.
    """

    model: str
    rate: float
    classes: int
    key: str
    victim: str
    medians: str | None = None

    @property
    def mapping(self) -> str:
        """Name of the mapping."""
        return "exact" if self.medians is None else "median"

    @property
    def limits(self) -> Array:
        """The medians, ``(units,)`` float32.

        Raises:
            Broken: There are none.
        """
        try:
            return np.frombuffer(bytes.fromhex(self.medians or ""), "<f4")
        except ValueError:
            raise Broken("the medians are not readable") from None

    def fixed(self) -> dict[str, Any]:
        """Returns what must not change, by name: all but the medians themselves, which are made only once."""
        return {**asdict(replace(self, medians=None)), "mapping": self.mapping}


@dataclass(frozen=True)
class Mark:
    """A row about which an account was told another label than the victim's.

    Attributes:
        form: Type and shape of the row, as :func:`encoded` tells them.
        row: Its bytes, likewise.
        said: The victim's label.
        told: The label that was told.
        at: When, in seconds since the epoch.
        cell: What the mapping makes of the row, in hexadecimal; None where the row is its own mapping.
    """

    form: str
    row: bytes
    said: int
    told: int
    at: float
    cell: str | None = None

    @property
    def x(self) -> Array:
        """The row, ``(*input_shape)``."""
        dtype, _, shape = self.form.partition(" ")
        axes = [int(axis) for axis in shape.split("x") if axis]
        if dtype == "text":
            return np.array(json.loads(self.row), object).reshape(axes)
        return np.frombuffer(self.row, dtype).reshape(axes)


def encoded(x: Array) -> tuple[str, Sequence[bytes]]:
    """Encodes rows ``(n, ...)``; those that no model tells apart are encoded alike.

    Returns:
        Type and shape of a row, such as ``<f4 1x28x28``, and the bytes of each: the numbers in order, with -0.0 as
        0.0 and any NaN as numpy's; of texts, a JSON list of them.
    """
    form, row = _form(x.dtype, x.shape[1:])
    if row is None:
        return form, [json.dumps(texts).encode() for texts in x.reshape(len(x), -1).tolist()]
    return form, canonical(x).view(row).ravel().tolist()


@lru_cache(256)
def _form(dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[str, np.dtype[Any] | None]:
    """Returns type and shape of a row, and the type of its bytes if these are numbers."""
    axes = "x".join(map(str, shape))
    if dtype.kind in "OU":
        return f"text {axes}", None
    return f"{dtype.str} {axes}", np.dtype((np.void, dtype.itemsize * math.prod(shape)))


class Chain:
    """A log of a store whose entries are chained.

    Attributes:
        name: Its name.
        length: How many entries were read.
        head: Hash of the last of them, in hexadecimal.
    """

    def __init__(self, store: Store, name: str, fold: Callable[[dict[str, Any], bytes], object]) -> None:
        """Takes a store, the log's name, and what is told of each entry: what it says and the bytes it carries."""
        self.name, self.length, self.head = name, 0, start_of(name)
        self._store, self._fold = store, fold
        self._least: int | None = None  # the length that the store knows the log to have at least

    async def catch_up(self) -> None:
        """Reads what the log has gained.

        Raises:
            Broken: An entry does not follow from the one before, or the log has lost its end.
        """
        if self._least is None:
            level = (await self._store.levels(self.name)).get(_LENGTH)
            self._least = 0 if level is None else int(level.as_of)
        tail = await self._store.read(self.name, self.length)
        for entry in tail.entries[self.length - tail.start :]:
            said, carried, self.head = linked(self.name, self.length, self.head, entry)
            self.length += 1
            self._fold(said, carried)
        if self.length < self._least:
            raise Broken(f"{self.name}: the log ends after {self.length} entries of at least {self._least}")

    async def append(self, made: Callable[[], Sequence[tuple[dict[str, Any], bytes]]]) -> None:
        """Appends what ``made`` returns until it returns nothing; it is asked anew whenever the log has grown.

        What is in the log when this returns is there for good, and missed if it is not.
        """
        await self.catch_up()
        while new := made():
            length, head, entries = self.length, self.head, []
            for said, carried in new:
                entries.append(orjson.dumps({"previous": head, **said}) + b"\n" + carried)
                head = hashlib.sha256(entries[-1]).hexdigest()
            try:
                await self._store.append(self.name, entries, expected=length)
            except VersionConflict:
                await self.catch_up()
                if self.length == length:
                    raise Broken(f"{self.name}: the log has lost entries, of which {length} were read") from None
            else:
                await self.catch_up()
        if self._least is None or self._least < self.length:
            least = self.length
            await self._store.charge(Charge(self.name, [Counter(_LENGTH, 0, refill=1.0, as_of=least)]))
            self._least = max(self._least or 0, least)


@dataclass(frozen=True)
class Proof:
    """What shows that a leaf is in a Merkle tree.

    Attributes:
        index: The leaf's place.
        size: How many leaves there are.
        path: Hashes of the siblings, from the leaf to the root, in hexadecimal.
    """

    __pydantic_config__ = {"json_schema_extra": {"examples": [_EXAMPLE["common_proof"]]}}  # noqa: RUF012

    index: int
    size: int
    path: tuple[str, ...]


class Commitment(NamedTuple):
    """What a register was committed to.

    Attributes:
        root: Root of the Merkle tree, in hexadecimal.
        at: When, in seconds since the epoch.
        marks: How many marks it binds.
    """

    root: str
    at: float
    marks: int


@dataclass(frozen=True)
class Opening:
    """All marks of an account that a commitment binds, and what shows it.

    Attributes:
        model: Name of the model.
        account: Name of the account.
        root: The commitment, in hexadecimal.
        committed_at: When it was made, in seconds since the epoch.
        common: The leaf of what all marks have in common.
        common_proof: That it is in the tree.
        account_proof: That the account's leaf is; it follows from the entries.
        entries: The account's log up to the commitment.
    """

    __pydantic_config__ = {"json_schema_extra": {"examples": [_EXAMPLE]}}  # noqa: RUF012

    model: str
    account: str
    root: str
    committed_at: float
    common: pydantic.Base64Bytes
    common_proof: Proof
    account_proof: Proof
    entries: tuple[pydantic.Base64Bytes, ...]

    def verified(self) -> tuple[WatermarkParameters, list[Mark]]:
        """Returns what the marks have in common, and the marks.

        Raises:
            Broken: They are not what the root commits to.
        """
        name = log_of(self.model, self.account)
        head, marks = start_of(name), []
        for position, entry in enumerate(self.entries):
            said, row, head = linked(name, position, head, entry)
            marks.append(_mark(said, row, f"{name}: entry {position}"))
        leaf = account_leaf(self.account, len(marks), head)
        for what, content, proof in (
            ("what the marks have in common", self.common, self.common_proof),
            (f"the {len(marks)} marks of {self.account}", leaf, self.account_proof),
        ):
            if rooted(leaf_hash(content), proof) != self.root:
                raise Broken(f"{what} are not what {self.root} commits to")
        try:
            common = WatermarkParameters(**orjson.loads(self.common))
        except (ValueError, TypeError):
            raise Broken("what the marks have in common is not readable") from None
        if self.common_proof.index != 0 or common.model != self.model:
            raise Broken(f"the marks are those of model {common.model!r}, not of {self.model!r}")
        return common, marks


class MarkLedger:
    """The marks of a model, as one process knows them.

    Attributes:
        common: What they have in common; None as long as there is no register.
    """

    def __init__(self, store: Store, model: str) -> None:
        """Takes a store and the model's name."""
        self._store, self._model = store, model
        self._index = Chain(store, f"marks/{model}", self._found)
        self.common: WatermarkParameters | None = None
        self._agreed: WatermarkParameters | None = None
        self._accounts: dict[str, _Account] = {}
        self._used: OrderedDict[str, int] = OrderedDict()  # marks that are known of an account, the last used last
        self._held = 0  # their sum
        self._commitments: dict[str, tuple[Commitment, int]] = {}  # and the entry's position

    async def begin(
        self, common: WatermarkParameters, medians: Callable[[], Awaitable[Array]] | None = None
    ) -> None:
        """Makes the register, unless there is one.

        Args:
            common: What its marks have in common, but the medians.
            medians: Makes these, ``(units,)``, where there is no register; None where a row is its own mapping.

        Raises:
            Broken: It does not hold together.
            BadInput: Its marks have something else in common.
        """
        common = replace(common, medians=None if medians is None else "")
        if self._agreed == common:
            return
        if self.common is None:
            await self._index.catch_up()
        if self.common is None and medians is not None:
            common = replace(common, medians=(await medians()).astype("<f4").tobytes().hex())
        await self._index.append(lambda: [] if self.common else [({"common": _said(common)}, b"")])
        assert self.common is not None
        now = common.fixed()
        for name, was in self.common.fixed().items():
            if was != now[name]:
                raise BadInput(
                    f"the marks of model {self._model} were made with {name} {was}, not {now[name]}; that is "
                    "fixed for its life: serve what is new under another name"
                )
        self._agreed = replace(common, medians=None if medians is None else "")

    async def read(self) -> list[list[Any]]:
        """Reads all of it.

        Returns:
            Of each account its name, and length and last hash of its log.

        Raises:
            Broken: It does not hold together.
        """
        await self._index.catch_up()
        known: list[list[Any]] = []
        for name in list(self._accounts):
            account = self._accounts[name]
            await account.chain.catch_up()
            known.append([name, account.chain.length, account.chain.head])
            self._use(name, account)
        return known

    async def add(self, account: str, marks: Sequence[Mark]) -> None:
        """Registers marks of an account, each row once; the register has begun.

        Raises:
            Broken: Its log does not hold together.
            Refused: The store is away (503).
        """
        if account not in self._accounts:
            await self._index.append(lambda: [] if account in self._accounts else [({"account": account}, b"")])
        known = self._accounts[account]

        def made() -> list[tuple[dict[str, Any], bytes]]:
            new = {_digest(mark.row): mark for mark in marks}
            return [(_said(mark), mark.row) for digest, mark in new.items() if digest not in known.rows]

        await known.chain.append(made)
        self._use(account, known)

    def _use(self, name: str, account: _Account) -> None:
        """Notes what is known of an account, and forgets those not used for longest: they can be read again."""
        if self._accounts[name] is account:  # else it was forgotten meanwhile
            self._held += len(account.rows) - self._used.pop(name, 0)
            self._used[name] = len(account.rows)
        while self._held > _HELD and len(self._used) > 1:
            oldest, marks = self._used.popitem(last=False)
            self._held -= marks
            self._accounts[oldest] = _Account(self._store, log_of(self._model, oldest))

    async def commit(self, at: float) -> Commitment:
        """Commits to all marks that there are, at the time ``at``.

        Raises:
            Broken: The register does not hold together.
            BadInput: There is none.
        """
        known = await self.read()
        common = self._common_leaf()
        leaves = [common, *(account_leaf(*account) for account in known)]
        root = merkle_root([leaf_hash(leaf) for leaf in leaves]).hex()
        if root not in self._commitments:
            entry = {"root": root, "at": at, "accounts": known}
            await self._index.append(lambda: [] if root in self._commitments else [(entry, b"")])
        return self._commitments[root][0]

    async def open(self, account: str, root: str | None = None) -> Opening:
        """Returns the marks of an account that a commitment binds, by default the last one.

        Raises:
            Broken: The register does not hold together.
            BadInput: There is no such commitment, or it binds no marks of the account.
        """
        await self.read()
        if not self._commitments:
            raise BadInput(f"the marks of model {self._model} were never committed to")
        if root is None:
            root = next(reversed(self._commitments))
        if root not in self._commitments:
            raise BadInput(f"there is no commitment {root} to the marks of model {self._model}")
        commitment, position = self._commitments[root]
        entry = (await self._store.read(self._index.name, position)).entries[0]
        known = orjson.loads(entry.partition(b"\n")[0])["accounts"]
        names = [name for name, _, _ in known]
        if account not in names:
            raise BadInput(f"commitment {root} binds no marks of account {account!r}")
        hashes = [leaf_hash(leaf) for leaf in (self._common_leaf(), *(account_leaf(*leaf) for leaf in known))]
        index = names.index(account) + 1
        entries = (await self._store.read(self._accounts[account].chain.name)).entries[: known[index - 1][1]]
        opening = Opening(
            model=self._model,
            account=account,
            root=root,
            committed_at=commitment.at,
            common=self._common_leaf(),
            common_proof=Proof(0, len(hashes), merkle_path(hashes, 0)),
            account_proof=Proof(index, len(hashes), merkle_path(hashes, index)),
            entries=tuple(entries),
        )
        opening.verified()
        return opening

    def _found(self, said: dict[str, Any], carried: bytes) -> None:
        match said:
            case {"common": common}:
                self.common = WatermarkParameters(**common)
            case {"account": name}:
                self._accounts[name] = _Account(self._store, log_of(self._model, name))
            case {"root": root, "at": at, "accounts": known}:
                commitment = Commitment(root, at, sum(marks for _, marks, _ in known))
                self._commitments[root] = commitment, self._index.length - 1
            case _:
                raise Broken(f"{self._index.name}: there is an entry of no known kind")

    def _common_leaf(self) -> bytes:
        if self.common is None:
            raise BadInput(f"model {self._model} has no register of marks")
        return orjson.dumps(_said(self.common))


_REGISTERS: WeakValueDictionary[tuple[int, str], MarkLedger] = WeakValueDictionary()


def shared(store: Store, model: str) -> MarkLedger:
    """Returns the register of a model that all layers of this process share, so that it is known only once."""
    key = id(store), model  # a register holds its store: while it is there, nothing else has that id
    found = _REGISTERS.get(key) or MarkLedger(store, model)
    _REGISTERS[key] = found
    return found


class _Account:
    """The marks of an account: their log, and digests of the rows."""

    def __init__(self, store: Store, name: str) -> None:
        self.rows: set[bytes] = set()
        self.chain = Chain(store, name, lambda said, row: self.rows.add(_digest(row)))


def log_of(model: str, account: str) -> str:
    """Returns the name of an account's log."""
    return f"marks/{model}/{account}"


def start_of(name: str) -> str:
    """Returns what the first entry of a log names as the hash before it, in hexadecimal."""
    return hashlib.sha256(name.encode()).hexdigest()


def linked(name: str, position: int, head: str, entry: bytes) -> tuple[dict[str, Any], bytes, str]:
    """Returns what an entry says, the bytes it carries, and its hash.

    Raises:
        Broken: It does not follow from the entry of the hash ``head``.
    """
    line, _, carried = entry.partition(b"\n")
    try:
        said: dict[str, Any] = orjson.loads(line)
        previous = said.pop("previous")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Broken(f"{name}: entry {position} is not readable") from None
    if previous != head:
        raise Broken(f"{name}: entry {position} follows {previous}, but the hash before it is {head}")
    return said, carried, hashlib.sha256(entry).hexdigest()


def account_leaf(account: str, marks: int, head: str) -> bytes:
    """Returns the leaf of an account with so many marks, the last of which has the hash ``head``."""
    return orjson.dumps({"account": account, "marks": marks, "head": head})


def leaf_hash(leaf: bytes) -> bytes:
    """Returns the hash of a leaf (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\0" + leaf).digest()


def merkle_root(hashes: Sequence[bytes]) -> bytes:
    """Returns the root over the hashes of leaves, of which there is at least one."""
    if len(hashes) == 1:
        return hashes[0]
    half = _half(len(hashes))
    return _node(merkle_root(hashes[:half]), merkle_root(hashes[half:]))


def merkle_path(hashes: Sequence[bytes], index: int) -> tuple[str, ...]:
    """Returns the siblings on the way from a leaf to the root, in hexadecimal."""
    if len(hashes) == 1:
        return ()
    half = _half(len(hashes))
    if index < half:
        return (*merkle_path(hashes[:half], index), merkle_root(hashes[half:]).hex())
    return (*merkle_path(hashes[half:], index - half), merkle_root(hashes[:half]).hex())


def rooted(leaf: bytes, proof: Proof) -> str | None:
    """Returns the root to which a proof leads from the hash of a leaf, in hexadecimal; None if to none."""
    index, size, path = proof.index, proof.size, proof.path
    if not 0 <= index < size or (size == 1) != (not path):
        return None
    if size == 1:
        return leaf.hex()
    half = _half(size)
    left = index < half
    rest = Proof(index, half, path[:-1]) if left else Proof(index - half, size - half, path[:-1])
    below = rooted(leaf, rest)
    try:
        pair = [bytes.fromhex(part) for part in ((below, path[-1]) if left else (path[-1], below)) if part]
        return _node(*pair).hex()
    except (ValueError, TypeError):
        return None


def _half(size: int) -> int:
    """Returns the greatest power of two less than ``size``."""
    return 1 << (size - 1).bit_length() - 1


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def _digest(row: bytes) -> bytes:
    return hashlib.sha256(row).digest()


def _said(record: WatermarkParameters | Mark) -> dict[str, Any]:
    """Returns what an entry says of a record: all but the row, which it carries, and what there is none of."""
    return {name: value for name, value in asdict(record).items() if name != "row" and value is not None}


def _mark(said: dict[str, Any], row: bytes, entry: str) -> Mark:
    """Returns the mark that an entry is.

    Raises:
        Broken: It is none, or its row is encoded otherwise than :func:`encoded` does: a row of many encodings
            could be counted as many rows.
    """
    expected = {field.name for field in fields(Mark)} - {"row", "cell"}
    if set(said) - {"cell"} != expected:
        raise Broken(f"{entry} has {sorted(said)}, not {sorted(expected)}")
    mark = Mark(row=row, **said)
    try:
        form, (canonical_row,) = encoded(mark.x[None])
    except (AttributeError, TypeError, ValueError):
        raise Broken(f"{entry} holds no row of the form {mark.form!r}") from None
    if (form, bytes(canonical_row)) != (mark.form, row):
        raise Broken(f"{entry} holds a row that is encoded otherwise than rows are, in the form {mark.form!r}")
    if type(mark.said) is not int or type(mark.told) is not int:
        raise Broken(f"{entry} has classes {mark.said!r} and {mark.told!r}, which are no integers")
    return mark
