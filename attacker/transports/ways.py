"""The addresses from which a thief's accounts reach a victim: his own, or those of proxies.

A server that links accounts by their networks (Juuti et al., "PRADA", EuroS&P 2019, section VI, assumes that it
cannot) sees the address of a connection. A thief can have many; he cannot invent them, since the answer comes back
to the address that asked, and a server believes a forwarding header from its own proxies only.
"""

from __future__ import annotations

import contextlib
from ipaddress import ip_address
from pathlib import Path

import httpx

from wire import BadInput
from wire.files import TEXT, read_bytes


def ways(file: Path) -> list[str]:
    """Returns the lines of a file: addresses of this machine, and URLs of HTTP proxies.

    Raises:
        BadInput: The file cannot be read, has no lines, or one is neither.
    """
    try:
        lines = [line.strip() for line in read_bytes(file, TEXT).decode().split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--from-prefixes {file}: {error}") from None
    for line in lines:
        if not (_is_address(line) or line.startswith(("http://", "https://"))):
            raise BadInput(f"--from-prefixes {file}: {line!r} is neither an address nor the URL of a proxy")
    if not lines:
        raise BadInput(f"--from-prefixes {file}: no lines; expected an address or the URL of a proxy on each")
    return lines


def client(way: str) -> httpx.Client:
    """Opens an HTTP client whose connections come from an address, or go through a proxy."""
    out = {"local_address": way} if _is_address(way) else {"proxy": way}
    transport = httpx.HTTPTransport(**out)  # type: ignore[arg-type]
    return httpx.Client(timeout=httpx.Timeout(60.0, connect=10.0), transport=transport)


def _is_address(way: str) -> bool:
    with contextlib.suppress(ValueError):
        ip_address(way)
        return True
    return False
