"""The key of a scheme: a secret, what follows from it, and the commitment to it.

Whatever a scheme draws follows from the owner's secret and from the commitment, which binds the settings and the
files that the scheme rests on. So whoever changes an image, a model or a setting changes all draws, and wrong keys
(``wrong_keys.py``) follow in the same way.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pydantic

from owner.commitment import Entry, Opened, Receipt, commitment_to, opened
from owner.trigger_key import seed_of
from wire import BadInput
from wire.files import TEXT, read_bytes

KEY = "key.json"


@dataclass(frozen=True)
class Rule:
    """The public part of a key.

    Attributes:
        method: Name of the test.
        settings: The settings that are bound.
        files: SHA-256 of the files that the scheme rests on, by name, in hexadecimal.
    """

    method: str
    settings: dict[str, Any]
    files: dict[str, str]

    def check(self, method: str, files: Mapping[str, str], settings: Mapping[str, Any] | None = None) -> None:
        """Raises :class:`~wire.BadInput` if the rule is of another method, of other files or other settings."""
        if method != self.method:
            raise BadInput(f"the key is of {self.method}, not of {method}")
        for name, found in files.items():
            if found != (wanted := self.files.get(name)):
                raise BadInput(f"{name}: SHA-256 {found}, but the key is of {wanted}: give the owner's file")
        for name, value in (settings or {}).items():
            if value != self.settings.get(name, value):
                raise BadInput(f"{name} is {value}, but the key is of {self.settings[name]}")


@dataclass(frozen=True, eq=False)
class SchemeKey:
    """The key: a secret and the rule.

    Attributes:
        secret: 32 bytes in hexadecimal.
        rule: The public part.
        receipt: The proof that the owner's log has the commitment; None without a log.
    """

    secret: str
    rule: Rule
    receipt: Receipt | None = None

    @cached_property
    def entry(self) -> Entry:
        """The entry of the owner's log."""
        return Entry(commitment_to(self._parts, self.secret), 1)

    @property
    def seed(self) -> str:
        """The seed of all that the scheme draws, in hexadecimal."""
        return seed_of(self.entry.root, self.secret)

    def rng(self) -> np.random.Generator:
        """Returns a source of randomness that follows from the seed."""
        return np.random.default_rng(int(self.seed, 16))

    def wrong(self, count: int) -> list[str]:
        """Returns seeds of wrong keys, which nothing but the draw tells from the right one."""
        draws = (f"wrong key {number}".encode() for number in range(count))
        return [hmac.digest(bytes.fromhex(self.seed), draw, "sha256").hex() for draw in draws]

    def opened_rule(self) -> Opened:
        """Opens the rule."""
        return opened(self._parts, self.secret, "rule")

    @property
    def _parts(self) -> dict[str, bytes]:
        return {"rule": _RULE.dump_json(self.rule), "secret": self.secret.encode()}

    def save(self, path: Path) -> None:
        """Writes the key to a folder, which is to be kept secret."""
        path.mkdir(parents=True, exist_ok=True)
        content = {"secret": self.secret, "rule": _RULE.dump_python(self.rule, mode="json")}
        (path / KEY).write_bytes(orjson.dumps(content) + b"\n")

    @staticmethod
    def load(path: Path) -> SchemeKey:
        """Reads a key, or raises :class:`~wire.BadInput`."""
        try:
            found = orjson.loads(read_bytes(path / KEY, TEXT))
            rule, secret = _RULE.validate_python(found["rule"]), bytes.fromhex(found["secret"]).hex()
        except OSError as error:
            raise BadInput(
                f"{path / KEY}: {error.strerror}; `mlaas-range prove mark-...` or `commit-...` makes it"
            ) from None
        except (orjson.JSONDecodeError, pydantic.ValidationError, KeyError, TypeError, ValueError):
            raise BadInput(f"{path / KEY}: not the key of a scheme") from None
        return SchemeKey(secret, rule)


def receipt_of(key: SchemeKey | None) -> Receipt | None:
    """Returns the receipt of a key, if there is a key and it has one."""
    return None if key is None else key.receipt


_RULE = pydantic.TypeAdapter(Rule)
