"""The key of radioactive data: what follows from it, and the commitment to it.

The carriers follow from the owner's secret and from the commitment, which binds the original images, the marker
and the settings. So whoever changes an image, or the network whose features are moved, changes all carriers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import orjson
import pydantic

from defenses.training.radioactive import Radioactive
from owner.commitment import Entry, Opened, Receipt, commitment_to, opened
from owner.trigger_key import seed_of
from wire import BadInput
from wire.files import TEXT, read_bytes
from zoo import folder
from zoo.data.pool import Pool
from zoo.network import Network

KEY = "key.json"


@dataclass(frozen=True)
class Rule:
    """The public part of a key.

    Attributes:
        mark: How the images were moved.
        vanilla: SHA-256 of the original images, in hexadecimal.
        marker: SHA-256 of the marker's weights, in hexadecimal.
    """

    mark: Radioactive
    vanilla: str
    marker: str


@dataclass(frozen=True, eq=False)
class RadioactiveKey:
    """The key: a secret and the rule.

    Attributes:
        secret: 32 bytes in hexadecimal.
        rule: The public part.
        receipt: The proof that the owner's log has the commitment; None without a log.
    """

    secret: str
    rule: Rule
    receipt: Receipt | None = None

    @staticmethod
    def new(mark: Radioactive, vanilla: Pool, marker: Network, secret: str) -> RadioactiveKey:
        """Makes the key for images that are going to be marked."""
        return RadioactiveKey(secret, Rule(mark, vanilla.fingerprint, folder.fingerprint(marker)))

    @cached_property
    def entry(self) -> Entry:
        """The entry of the owner's log."""
        return Entry(commitment_to(self._parts, self.secret), 1)

    @property
    def carriers(self) -> str:
        """The secret from which the carriers follow, in hexadecimal."""
        return seed_of(self.entry.root, self.secret)

    def opened_rule(self) -> Opened:
        """Opens the rule."""
        return opened(self._parts, self.secret, "rule")

    def marked(self, vanilla: Pool, marker: Network) -> Pool:
        """Returns the images with the mark.

        Raises:
            BadInput: The images or the marker are not those of the key.
        """
        for what, found, wanted in (
            ("original images have", vanilla.fingerprint, self.rule.vanilla),
            ("marker's weights have", folder.fingerprint(marker), self.rule.marker),
        ):
            if found != wanted:
                raise BadInput(f"the {what} SHA-256 {found}, but the key is of {wanted}: give the owner's file")
        return self.rule.mark.marked(vanilla, marker, self.carriers)

    @property
    def _parts(self) -> dict[str, bytes]:
        return {"rule": orjson.dumps(asdict(self.rule)), "secret": self.secret.encode()}

    def save(self, path: Path) -> None:
        """Writes the key to a folder, which is to be kept secret."""
        path.mkdir(parents=True, exist_ok=True)
        (path / KEY).write_bytes(orjson.dumps({"secret": self.secret, "rule": asdict(self.rule)}) + b"\n")

    @staticmethod
    def load(path: Path) -> RadioactiveKey:
        """Reads a key, or raises :class:`~wire.BadInput`."""
        try:
            found = orjson.loads(read_bytes(path / KEY, TEXT))
            rule, secret = (
                pydantic.TypeAdapter(Rule).validate_python(found["rule"]),
                bytes.fromhex(found["secret"]).hex(),
            )
        except OSError as error:
            raise BadInput(
                f"{path / KEY}: {error.strerror}; `mlaas-range prove mark-radioactive` makes it"
            ) from None
        except (orjson.JSONDecodeError, pydantic.ValidationError, KeyError, TypeError, ValueError):
            raise BadInput(f"{path / KEY}: not the key of radioactive data") from None
        return RadioactiveKey(secret, rule)
