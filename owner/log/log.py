"""The folder of a log: the owner's secret key, all entries, and the signed heads.

``entries.jsonl`` has one entry a line, and ``head-N.json`` is the head after N entries. Both are public.
``key.pem`` is secret. Anyone who has it can sign in the owner's name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from filelock import FileLock

from owner.log.head import Head, now, one_log, read_head
from owner.log.merkle import leaf_hash, tree_hash
from wire import BadInput
from wire.files import TEXT, read_bytes

KEY, ENTRIES = "key.pem", "entries.jsonl"


@dataclass(frozen=True)
class Log:
    """A log, read from its folder and checked.

    Attributes:
        folder: The folder.
        key: The owner's secret key.
        entries: The entries, in order.
        heads: The signed heads, by their sizes in ascending order.
    """

    folder: Path
    key: Ed25519PrivateKey
    entries: tuple[bytes, ...]
    heads: tuple[Head, ...]

    @staticmethod
    def open(folder: Path, *, create: bool = False) -> Log:
        """Reads a log.

        Args:
            folder: The folder.
            create: Whether to begin a log, with a new key, if there is none.

        Raises:
            BadInput: There is no log, or its files contradict one another.
        """
        if not (folder / KEY).exists():
            if not create:
                raise BadInput(f"{folder}: no log; `mlaas-range prove commit --log {folder}` begins one")
            _begin(folder)
        try:
            key = serialization.load_pem_private_key(read_bytes(folder / KEY, TEXT), None)
            content = read_bytes(folder / ENTRIES, TEXT)
        except (OSError, ValueError, TypeError):
            raise BadInput(f"{folder}: the log needs {KEY}, with an Ed25519 key, and {ENTRIES}") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise BadInput(f"{folder / KEY}: not an Ed25519 key")
        entries = tuple(content.splitlines())
        heads = tuple(sorted(map(read_head, folder.glob("head-*.json")), key=lambda head: head.size))
        log = Log(folder, key, entries, heads)
        log.check()
        return log

    @property
    def public_key(self) -> str:
        """The owner's public key, in hexadecimal."""
        return self.key.public_key().public_bytes_raw().hex()

    @property
    def leaves(self) -> list[bytes]:
        """The hashes of the entries."""
        return [leaf_hash(entry) for entry in self.entries]

    def check(self) -> None:
        """Raises :class:`~wire.BadInput` if the heads are not those of the entries, signed by the key."""
        if [head.size for head in self.heads] != list(range(1, len(self.entries) + 1)):
            raise BadInput(f"{self.folder}: expected a head after each of the {len(self.entries)} entries")
        one_log([Head(self.public_key, 0, tree_hash([]).hex(), now()), *self.heads])
        for head in self.heads:
            if head.root != tree_hash(self.leaves[: head.size]).hex():
                raise BadInput(f"{self.folder}: the entries are not those of {head_name(head.size)}")

    def append(self, entry: bytes) -> Log:
        """Appends an entry of one line, and signs the new head."""
        with FileLock(self.folder / ".lock"):
            log = Log.open(self.folder)
            entries = (*log.entries, entry)
            root = tree_hash([leaf_hash(one) for one in entries]).hex()
            _write(self.folder / ENTRIES, b"".join(one + b"\n" for one in entries))
            _write(
                self.folder / head_name(len(entries)),
                Head(log.public_key, len(entries), root, now()).signed(log.key).to_json(),
            )
        return Log.open(self.folder)

    def replace_head(self, head: Head) -> None:
        """Writes a head again, with a timestamp."""
        _write(self.folder / head_name(head.size), head.to_json())


def head_name(size: int) -> str:
    """Returns the name of the file of a head."""
    return f"head-{size}.json"


def _begin(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(folder / ENTRIES, b"")
    _write(folder / KEY, key)


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
    partial.replace(path)
