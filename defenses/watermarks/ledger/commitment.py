"""Commitments to a ledger, and openings of them.

A commitment is one hash over the watermark's parameters and a list of hashes, one per account with marks. An
account's hash binds the length of its log and the hash of the last entry, and so all of its marks: an opening
cannot omit any.

An opening shows the marks of one account and the whole list. The list reveals how many accounts have marks, but
nothing else about the other accounts: each hash is blinded by 32 bytes derived from the commitment's random salt
and the account's name, and the list is sorted. Without blinding, a short name could be guessed from its hash.
Every commitment has its own salt, so that two openings do not show which accounts got new marks in between. A
Merkle tree would make openings shorter, but it needs four times the code and reveals the number of accounts as
well.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
import pydantic

from defenses.watermarks.ledger.chain import Broken, follow, start_of
from defenses.watermarks.ledger.marks import Mark, WatermarkParameters
from wire import BadInput

_EXAMPLE: dict[str, Any] = {
    "model": "victim",
    "account": "alice",
    "root": "9f2c...",
    "committed_at": 1763733600.0,
    "parameters": "eyJtb2RlbCI6InZpY3RpbSIsLi4ufQ==",
    "blinding": "5d1e...",
    "accounts": ["41b0...", "77e3..."],
    "entries": ["eyJwcmV2aW91cyI6Ii4uLiJ9Cg=="],
}


class Commitment(NamedTuple):
    """A commitment to a ledger.

    Attributes:
        root: The committing hash, in hexadecimal.
        at: Time of the commitment, in seconds since the epoch.
        marks: Number of marks that it binds.
    """

    root: str
    at: float
    marks: int


@dataclass(frozen=True)
class Opening:
    """All marks of one account that a commitment binds, with a proof.

    Attributes:
        model: Name of the model.
        account: Name of the account.
        root: The commitment, in hexadecimal.
        committed_at: Time of the commitment according to the owner, in seconds since the epoch. The root does not
            bind it; the time that counts is that of the root's publication.
        parameters: The watermark's parameters, in the hashed encoding.
        blinding: Blinding of the account's hash, in hexadecimal.
        accounts: The hashes of all accounts with marks, in hexadecimal, sorted.
        entries: The account's log up to the commitment.
    """

    __pydantic_config__ = {"json_schema_extra": {"examples": [_EXAMPLE]}}  # noqa: RUF012

    model: str
    account: str
    root: str
    committed_at: float
    parameters: pydantic.Base64Bytes
    blinding: str
    accounts: tuple[str, ...]
    entries: tuple[pydantic.Base64Bytes, ...]

    @staticmethod
    def from_json(content: bytes | str, place: str) -> Opening:
        """Reads an opening from the server's JSON; ``place`` names its source in errors.

        Raises:
            BadInput: The content is not an opening, or was written by an earlier version.
        """
        try:
            return _ADAPTER.validate_json(content)
        except pydantic.ValidationError as error:
            raise BadInput(f"{place}: not the marks of an account: {problem(error)}") from None

    def to_json(self) -> bytes:
        """Writes the opening as the server's JSON."""
        return _ADAPTER.dump_json(self)

    def verified(self) -> tuple[WatermarkParameters, list[Mark]]:
        """Returns the watermark's parameters and the account's marks.

        Raises:
            Broken: They do not match the root.
        """
        if root_of(self.parameters, self.accounts) != self.root:
            raise Broken(f"the parameters and the list of accounts do not match the commitment {self.root}")
        name = log_of(self.model, self.account)
        head, marks = start_of(name), []
        for position, entry in enumerate(self.entries):
            members, row, head = follow(name, position, head, entry)
            marks.append(Mark.of(members, row, f"{name}: entry {position}"))
        if account_hash(self.account, len(marks), head, self.blinding) not in self.accounts:
            raise Broken(f"the {len(marks)} marks of {self.account} do not match the commitment {self.root}")
        try:
            parameters = WatermarkParameters(**orjson.loads(self.parameters))
        except (ValueError, TypeError):
            raise Broken("the watermark's parameters are invalid") from None
        if parameters.model != self.model:
            raise Broken(f"the marks belong to model {parameters.model!r}, not to {self.model!r}")
        return parameters, marks


_ADAPTER = pydantic.TypeAdapter(Opening)


def problem(error: pydantic.ValidationError) -> str:
    """Describes the first error in the JSON of an opening; recognises files of an earlier version."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    if first["type"] == "missing" and isinstance(first["input"], dict) and "account_proof" in first["input"]:
        return (
            "they were opened by an earlier version, which proved them with a Merkle tree: judge them with that "
            "version, or commit and fetch the marks again"
        )
    return " ".join([".".join(where), first["msg"]]).strip()


def log_of(model: str, account: str) -> str:
    """Returns the name of an account's log."""
    return f"marks/{model}/{account}"


def blinding_of(salt: str, account: str) -> str:
    """Returns the blinding of an account's hash, in hexadecimal, given a commitment's salt in hexadecimal."""
    return hmac.digest(bytes.fromhex(salt), account.encode(), "sha256").hex()


def account_hash(account: str, marks: int, head: str, blinding: str) -> str:
    """Returns the hash of an account with a number of marks; ``head`` is the hash of its last entry."""
    return hashlib.sha256(orjson.dumps([blinding, account, marks, head])).hexdigest()


def root_of(parameters: bytes, accounts: Sequence[str]) -> str:
    """Returns the hash that commits to the parameters and to the hashes of all accounts."""
    return hashlib.sha256(orjson.dumps([hashlib.sha256(parameters).hexdigest(), *accounts])).hexdigest()
