"""Commitments: what an owner binds before there is a suspect, and the proof that he did.

A commitment is the root of a Merkle tree over the parts of a study: recipe, rows by their hashes, the secret of
all draws, victim, models, and the rule of the tests. Each part is blinded, so that one can be shown without the
others. The root is an entry of the owner's log (``owner/log``), whose signed heads he publishes. A receipt proves
from published heads alone that the log had the entry, and how many entries it has: an owner who commits to many
victims could show the luckiest one, so a p-value is multiplied by their number.

Which of M + 1 exchangeable models is the victim must not be chosen with the suspect in view. Either it is the
model that was deployed, or it is drawn from a public value that the commitment named before anybody could know it.

Source: Laurie, Langley, Kasper, "Certificate Transparency", RFC 6962; a commitment against false claims is that of
Liu, Zhang, Szyller, Ren, Asokan, "False Claims against Model Ownership Resolution", USENIX Security 2024.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pydantic

from owner.log.head import Head, one_log
from owner.log.log import Log
from owner.log.merkle import consistency_path, extends, includes, inclusion_path, leaf_hash, tree_hash
from wire import BadInput


@dataclass(frozen=True)
class Entry:
    """An entry of the log.

    Attributes:
        root: The commitment, in hexadecimal.
        models: Number of models among which the victim is, M + 1.
        beacon: Name of the public value that draws the victim; None if the victim is the model that is deployed.
    """

    root: str
    models: int
    beacon: str | None = None

    @property
    def line(self) -> bytes:
        """The entry as it is hashed."""
        return pydantic.TypeAdapter(Entry).dump_json(self)


@dataclass(frozen=True)
class Opened:
    """One part of a commitment, which is shown without the others.

    Attributes:
        content: The part, as JSON.
        blinding: Its blinding, in hexadecimal.
        index: Its place among the parts.
        size: Number of parts.
        path: Its proof of inclusion, in hexadecimal.
    """

    content: str
    blinding: str
    index: int
    size: int
    path: tuple[str, ...]

    def belongs_to(self, root: str) -> bool:
        """Returns whether a commitment binds this part at this place."""
        leaf = leaf_hash(bytes.fromhex(self.blinding) + self.content.encode())
        return includes(bytes.fromhex(root), self.size, leaf, self.index, _bytes(self.path))


def commitment_to(parts: Mapping[str, bytes], secret: str) -> str:
    """Returns the commitment to named parts, in hexadecimal; the secret, 32 bytes in hexadecimal, blinds each."""
    return tree_hash(_leaves(parts, secret)).hex()


def opened(parts: Mapping[str, bytes], secret: str, name: str) -> Opened:
    """Opens one part of a commitment; see :func:`commitment_to`."""
    index, leaves = list(parts).index(name), _leaves(parts, secret)
    path = tuple(step.hex() for step in inclusion_path(leaves, index))
    return Opened(parts[name].decode(), _blinding(secret, name).hex(), index, len(parts), path)


def drawn_victim(value: str, root: str, models: int) -> int:
    """Returns the number of the victim among the models: SHA-256(value || root) mod (M + 1).

    Args:
        value: The public value, in hexadecimal.
        root: The commitment that named it, in hexadecimal.
        models: Number of models, M + 1.

    Raises:
        BadInput: The value is not hexadecimal.
    """
    try:
        digest = hashlib.sha256(bytes.fromhex(value) + bytes.fromhex(root)).digest()
    except ValueError:
        raise BadInput(f"the beacon's value is {value!r}; expected hexadecimal") from None
    return int.from_bytes(digest) % models


@dataclass(frozen=True)
class Receipt:
    """The proof that a log has a commitment, and of how many entries it has.

    Attributes:
        entry: The commitment.
        index: Its place in the log.
        inclusion: The proof that the log had it at the head ``head``, in hexadecimal.
        head: The first signed head with the entry.
        latest: The latest signed head.
        consistency: The proof that the latest head extends the first, in hexadecimal.
        rule: The rule of the tests, one part of the commitment.
    """

    entry: Entry
    index: int
    inclusion: tuple[str, ...]
    head: Head
    latest: Head
    consistency: tuple[str, ...]
    rule: Opened

    @property
    def commitments(self) -> int:
        """Number of commitments in the log, which multiplies a p-value."""
        return self.latest.size

    def check(self) -> None:
        """Raises :class:`~wire.BadInput` if the receipt does not prove what it says."""
        first, last = self.head, self.latest
        for head in (first, last):
            head.check()
        one_log([first, last])
        leaf = leaf_hash(self.entry.line)
        if not includes(bytes.fromhex(first.root), first.size, leaf, self.index, _bytes(self.inclusion)):
            raise BadInput(f"the log of {first.size} entries does not have the commitment {self.entry.root}")
        new, old = ((head.size, bytes.fromhex(head.root)) for head in (last, first))
        if not extends(new, old, _bytes(self.consistency)):
            raise BadInput(f"the log of {last.size} entries does not extend that of {first.size}")
        if not self.rule.belongs_to(self.entry.root):
            raise BadInput(f"the rule is not that of the commitment {self.entry.root}")

    def check_published(self, heads: Sequence[Head]) -> Head:
        """Returns the published head that shows the commitment.

        Args:
            heads: Heads that were found where the owner published them.

        Raises:
            BadInput: The receipt is not of this log, or the log has more entries than the receipt admits.
        """
        one_log([self.head, self.latest, *heads])
        longest = max(head.size for head in heads)
        if longest > self.latest.size:
            raise BadInput(f"a head of {longest} entries was published, but the receipt admits {self.latest.size}")
        shown = [head for head in heads if head.size == self.head.size]
        if not shown:
            raise BadInput(
                f"the commitment is shown by the head of {self.head.size} entries, but the published heads have "
                f"{', '.join(str(head.size) for head in heads)}: give that head too"
            )
        return shown[0]


def commit(log: Log, entry: Entry) -> Log:
    """Appends a commitment to a log, unless it is there."""
    return log if entry.line in log.entries else log.append(entry.line)


def receipt(log: Log, entry: Entry, rule: Opened) -> Receipt:
    """Returns the receipt of a commitment.

    Raises:
        BadInput: The log does not have it.
    """
    if entry.line not in log.entries:
        raise BadInput(
            f"{log.folder} does not have the commitment {entry.root}: run `mlaas-range prove commit` first"
        )
    index = log.entries.index(entry.line)
    leaves, size = log.leaves, index + 1
    return Receipt(
        entry=entry,
        index=index,
        inclusion=tuple(step.hex() for step in inclusion_path(leaves[:size], index)),
        head=log.heads[index],
        latest=log.heads[-1],
        consistency=tuple(step.hex() for step in consistency_path(leaves, size)),
        rule=rule,
    )


def _leaves(parts: Mapping[str, bytes], secret: str) -> list[bytes]:
    return [leaf_hash(_blinding(secret, name) + part) for name, part in parts.items()]


def _blinding(secret: str, name: str) -> bytes:
    return hmac.digest(bytes.fromhex(secret), name.encode(), "sha256")


def _bytes(path: Sequence[str]) -> list[bytes]:
    return [bytes.fromhex(step) for step in path]
