"""Accounts and their keys. A key is told once, when it is made; the store holds its hash."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from defenses.store import Document, Documents, Store
from wire import BadInput, Refused


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks.

    Attributes:
        name: The account's name.
        plan: Name of its plan.
    """

    name: str
    plan: str


class Accounts:
    """The accounts of a server."""

    def __init__(self, store: Store) -> None:
        """Takes the store where they are kept."""
        self._store = store

    async def create(self, name: str, plan: str) -> str:
        """Makes an account.

        Returns:
            Its key, which cannot be had again.

        Raises:
            BadInput: There is an account of that name.
        """
        if not name or len(name) > 64 or not name.replace("-", "").replace("_", "").isalnum():
            raise BadInput(f"account name {name!r}: expected up to 64 letters, digits, '-' and '_'")
        key = "mlr_" + secrets.token_urlsafe(32)
        hashed = _hashed(key)

        def step(documents: Documents) -> None:
            if f"account/{name}" in documents:
                raise BadInput(f"there is an account {name!r} already")
            documents[f"account/{name}"] = {"plan": plan}
            documents[f"key/{hashed}"] = {"account": name}

        await self._store.transact([f"account/{name}", f"key/{hashed}"], step)
        return key

    async def authenticate(self, authorization: str | None) -> Account:
        """Tells whose key an ``Authorization`` header holds.

        Raises:
            Refused: It holds none, or one that is not known (401).
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refused("no key: expected the header 'Authorization: Bearer <key>'", status=401)
        known = await self._store.read(f"key/{_hashed(key.strip())}")
        account = known and await self._store.read(f"account/{known['account']}")
        if not known or not account:
            raise Refused("the key is not known here", status=401)
        return Account(known["account"], account["plan"])

    async def usage(self, name: str) -> Document:
        """Returns what admission has on an account."""
        return await self._store.read(f"usage/{name}") or {}

    async def all(self) -> list[Account]:
        """Lists the accounts."""
        found = await self._store.find("account/")
        return [Account(key.removeprefix("account/"), value["plan"]) for key, value in sorted(found.items())]


def _hashed(key: str) -> str:
    # Keys are 256 random bits: a plain hash cannot be inverted by guessing, nor does looking one up leak it.
    return hashlib.sha256(key.encode()).hexdigest()
