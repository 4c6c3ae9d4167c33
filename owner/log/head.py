"""Signed tree heads: what an owner publishes of his log.

Source: RFC 6962, section 3.5, with Ed25519 (RFC 8032) in place of the signatures named there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pydantic
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from wire import BadInput
from wire.files import TEXT, read_bytes


@dataclass(frozen=True)
class Head:
    """The state of a log at one time, signed by its owner.

    Attributes:
        key: The owner's public key (Ed25519), in hexadecimal.
        size: Number of entries.
        root: Root of the Merkle tree over the entries, in hexadecimal.
        time: Time of the signature by the owner's clock.
        signature: The signature of all of this, in hexadecimal.
        timestamp: The response of a timestamping authority (RFC 3161) about the signature; None without one.
    """

    key: str
    size: int
    root: str
    time: pydantic.AwareDatetime
    signature: str = ""
    timestamp: pydantic.Base64Bytes | None = None

    @property
    def content(self) -> bytes:
        """The signed bytes."""
        when = self.time.astimezone(UTC).isoformat()
        return f"mlaas-range tree head\n{self.key}\n{self.size}\n{self.root}\n{when}\n".encode()

    def signed(self, key: Ed25519PrivateKey) -> Head:
        """Returns the head with the signature of its owner."""
        return replace(self, signature=key.sign(self.content).hex())

    def check(self) -> None:
        """Raises :class:`~wire.BadInput` if the signature is not that of the key."""
        if not is_signed(self.key, self.signature, self.content):
            raise BadInput(f"the head of {self.size} entries is not signed by its key {self.key}")

    def to_json(self) -> bytes:
        """Writes the head as JSON."""
        return _ADAPTER.dump_json(self, indent=1) + b"\n"


_ADAPTER = pydantic.TypeAdapter(Head)


def read_head(path: Path) -> Head:
    """Reads a published head.

    Raises:
        BadInput: The file cannot be read, or does not hold a head that its key signed.
    """
    try:
        head = _ADAPTER.validate_json(read_bytes(path, TEXT))
    except OSError as error:
        raise BadInput(
            f"{path}: {error.strerror}; expected a head that `mlaas-range prove commit` wrote"
        ) from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        raise BadInput(
            f"{path}: not the head of a log: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        ) from None
    try:
        head.check()
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from None
    return head


def is_signed(key: str, signature: str, content: bytes) -> bool:
    """Returns whether an Ed25519 signature of some content is valid; key and signature are hexadecimal."""
    try:
        if bytes.fromhex(signature).hex() != signature:
            return False
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), content)
    except (InvalidSignature, ValueError):
        return False
    return True


def one_log(heads: Sequence[Head]) -> None:
    """Raises :class:`~wire.BadInput` if heads are not of one log: of several keys, or of different histories."""
    first = heads[0]
    for head in heads[1:]:
        if head.key != first.key:
            raise BadInput(f"the heads are of the keys {first.key} and {head.key}; expected one log")
    roots = dict[int, str]()
    for head in heads:
        if roots.setdefault(head.size, head.root) != head.root:
            raise BadInput(
                f"the log is forked: two heads of {head.size} entries have the roots {roots[head.size]} and "
                f"{head.root}"
            )


def now() -> datetime:
    """Returns the time, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
