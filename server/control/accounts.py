"""Accounts and their keys: a view of the control log."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from wire import BadInput, Refused

if TYPE_CHECKING:
    from server.control.log import ControlLog, Event

OPERATOR = "the command line"  # its name in the audit


@dataclass(frozen=True, slots=True)
class Account:
    """A client of the server.

    Attributes:
        name: The account's name.
        plan: Name of its plan.
        opened: When it was created, in seconds since the epoch; 0 if that is unknown.
        payment: Hash of the operator's token for who pays; empty without one.
    """

    name: str
    plan: str
    opened: float = field(default=0.0, compare=False)
    payment: str = field(default="", compare=False)


class Accounts:
    """The accounts, and the hashes of their keys."""

    def __init__(self, log: ControlLog) -> None:
        """Knows no account yet."""
        self._log = log
        self.reset({})

    def reset(self, saved: dict[str, Any]) -> None:
        """Takes its part of a snapshot."""
        more = saved.get("origins", {})
        self._accounts = {
            name: Account(name, plan, *more.get(name, ())) for name, plan in saved.get("plans", {}).items()
        }
        self._keys: dict[str, list[str]] = saved.get("keys", {})  # hash and account of each key, by the key's id

    def save(self) -> dict[str, Any]:
        """Returns its part of a snapshot."""
        return {
            "plans": {name: account.plan for name, account in self._accounts.items()},
            "origins": {name: [account.opened, account.payment] for name, account in self._accounts.items()},
            "keys": self._keys,
        }

    def fold(self, event: Event) -> bool:
        """Applies an event."""
        match event["do"]:
            case "create account":
                self._accounts[event["account"]] = Account(
                    event["account"], event["plan"], event.get("at", 0.0), event.get("payment", "")
                )
                self._keys[key_id(event["key"])] = [event["key"], event["account"]]
            case "create key":
                self._keys[key_id(event["key"])] = [event["key"], event["account"]]
            case "revoke keys":
                for key in event["keys"]:
                    self._keys.pop(key, None)
            case "set plan":
                self._accounts[event["account"]] = replace(self._accounts[event["account"]], plan=event["plan"])
            case _:
                return False
        return True

    def authenticate(self, authorization: str | None) -> Account:
        """Returns the account whose key an ``Authorization`` header carries.

        Raises:
            Refused: It carries no key, or an unknown one (401).
        """
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise Refused("no key: expected the header 'Authorization: Bearer <key>'", status=401)
        given = hashed(key.strip())
        expected, name = self._keys.get(key_id(given), ("", ""))
        if not hmac.compare_digest(expected, given):
            raise Refused("the key is not known here", status=401)
        return self._accounts[name]

    def all(self) -> list[Account]:
        """Lists the accounts by name."""
        return [account for _, account in sorted(self._accounts.items())]

    def keys_of(self, name: str) -> list[str]:
        """Returns the ids of an account's keys."""
        return [key for key, (_, account) in self._keys.items() if account == name]

    async def create(self, name: str, plan: str, by: str, payment: str | None = None) -> str:
        """Creates an account.

        Args:
            name: Its name.
            plan: Name of its plan.
            by: The author, for the audit.
            payment: A token of the operator's for who pays; only a hash of it is kept.

        Returns:
            Its key, of which only a hash is kept.

        Raises:
            BadInput: The name is taken or invalid.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
            raise BadInput(f"account name {name!r}: expected up to 64 letters, digits, '-' and '_'")
        key = _new_key()

        async def event() -> Event:
            if name in self._accounts:
                raise BadInput(f"there is an account {name!r} already")
            paid = {} if payment is None else {"payment": hashed(payment)}
            return {"do": "create account", "account": name, "plan": plan, "key": hashed(key), **paid}

        await self._log.write(event, by)
        return key

    async def add_key(self, name: str, by: str) -> str:
        """Gives an account a further key, and returns it.

        Raises:
            BadInput: There is no such account.
        """
        key = _new_key()

        async def event() -> Event:
            return {"do": "create key", "account": self._known(name), "key": hashed(key)}

        await self._log.write(event, by)
        return key

    async def revoke(self, name: str, by: str, keep: str | None = None, only: str | None = None) -> int:
        """Revokes keys of an account, for all workers at once.

        Args:
            name: Name of the account.
            by: The author, for the audit.
            keep: Id of a key that stays, if any.
            only: Id of the one key to revoke; None revokes all.

        Returns:
            How many were revoked.

        Raises:
            BadInput: There is no such account or key.
        """
        revoked: list[str] = []

        async def event() -> Event:
            keys = self.keys_of(self._known(name))
            if only is not None and only not in keys:
                raise BadInput(f"account {name!r} has no key {only!r}; it has {', '.join(keys) or 'none'}")
            revoked[:] = [key for key in keys if key != keep and only in (None, key)]
            return {"do": "revoke keys", "account": name, "keys": revoked}

        await self._log.write(event, by)
        return len(revoked)

    async def rotate(self, name: str, by: str) -> str:
        """Gives an account a new key, revokes the others, and returns it."""
        key = await self.add_key(name, by)
        await self.revoke(name, by, keep=key_id(hashed(key)))
        return key

    async def set_plan(self, name: str, plan: str, by: str) -> None:
        """Puts an account on another plan.

        Raises:
            BadInput: There is no such account.
        """

        async def event() -> Event:
            return {"do": "set plan", "account": self._known(name), "plan": plan}

        await self._log.write(event, by)

    def _known(self, name: str) -> str:
        if name not in self._accounts:
            raise BadInput(f"there is no account {name!r}")
        return name


def key_id(digest: str) -> str:
    """Returns the id of a key, given its hash."""
    return digest[:12]


def hashed(key: str) -> str:
    """Returns the hash of a key; a plain one suffices, since 256 random bits cannot be guessed."""
    return hashlib.sha256(key.encode()).hexdigest()


def _new_key() -> str:
    return "mlr_" + secrets.token_urlsafe(32)
