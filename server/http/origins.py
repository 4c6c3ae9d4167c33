"""The origin of a request: the server's knowledge of its sender besides the account, hashed with a key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from pydantic import BaseModel, ConfigDict, Field, field_validator

from server.control.accounts import Account
from wire import Origin

_FORWARDED = b"x-forwarded-for"
_CHANGING = {
    b"authorization",
    b"content-encoding",
    b"content-length",
    b"host",
    b"inference-header-content-length",
    b"x-request-id",
}
_PROXIES = {_FORWARDED, b"x-forwarded-proto", b"x-forwarded-host", b"x-real-ip", b"forwarded", b"via"}
_VALUED = (b"user-agent", b"accept", b"accept-encoding", b"accept-language")
_HOUR = 3600

Address = IPv4Address | IPv6Address


class OriginSettings(BaseModel):
    """Notes with each request where it comes from, for detectors of linked accounts.

    The network prefix, the client's fingerprint and the payment token are hashed with a key of this server's, so
    that logs hold none of them.

    Attributes:
        proxies: Networks of trusted proxies, such as ``10.0.0.0/8``. If a connection comes from one of them, the
            address is the last one in ``X-Forwarded-For`` that does not belong to a trusted proxy. The header of
            any other client is ignored, since anyone can write one.
        ipv4: Bits of an IPv4 address that make a prefix.
        ipv6: Bits of an IPv6 address that make a prefix.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    proxies: tuple[str, ...] = ()
    ipv4: int = Field(24, ge=8, le=32)
    ipv6: int = Field(48, ge=16, le=128)

    @field_validator("proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            ip_network(proxy)  # raises ValueError, which says what is wrong
        return proxies


class Origins:
    """Finds the origins of requests."""

    def __init__(self, settings: OriginSettings, key: bytes) -> None:
        """Takes the settings, and the key of all hashes (32 bytes)."""
        self._settings, self._key = settings, key
        self._proxies = [ip_network(proxy) for proxy in settings.proxies]

    def of(self, account: Account, peer: str | None, headers: Mapping[bytes, bytes]) -> Origin:
        """Returns a request's origin.

        Args:
            account: The account that asks.
            peer: Address of the other end of the connection; None if it has none.
            headers: The request's headers, by their names in lower case, in the order in which they were sent.
        """
        address = self.address(peer, headers)
        return Origin(
            prefix=self._hashed("prefix", "" if address is None else self._prefix(address)),
            fingerprint=self._hashed("fingerprint", fingerprint(headers)),
            plan=account.plan,
            opened=int(account.opened // _HOUR * _HOUR),
            payment=self._hashed("payment", account.payment),
        )

    def address(self, peer: str | None, headers: Mapping[bytes, bytes]) -> Address | None:
        """Returns the address of the client: the first, from this server outwards, that is no trusted proxy's."""
        address = _address(peer or "")
        hops = headers.get(_FORWARDED, b"").decode("latin-1").split(",")
        while address is not None and hops and any(address in network for network in self._proxies):
            before = _address(hops.pop())
            if before is None:  # a proxy that says nothing, or nothing that can be read
                break
            address = before
        return address

    def _prefix(self, address: Address) -> str:
        bits = self._settings.ipv4 if address.version == 4 else self._settings.ipv6
        return str(ip_network((address, bits), strict=False))

    def _hashed(self, what: str, value: str) -> str:
        if not value:
            return ""
        return hashlib.blake2b(f"{what}/{value}".encode(), key=self._key, digest_size=8).hexdigest()


def fingerprint(headers: Mapping[bytes, bytes]) -> str:
    """Returns what a client's software shows of itself: the order of its headers, and some of their values."""
    names = [name for name in headers if name not in _CHANGING and name not in _PROXIES]
    values = [headers.get(name, b"") for name in _VALUED]
    return b"\n".join([b",".join(names), *values]).decode("latin-1")


def _address(text: str) -> Address | None:
    """Reads an address, with or without a port; None if it is none."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
