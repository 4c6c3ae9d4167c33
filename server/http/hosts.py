"""The names by which clients may call a server that is bound to the loopback.

A web page whose name is made to resolve to 127.0.0.1 (DNS rebinding) could otherwise read what such a server
answers; its browser sends the page's own name as ``Host``.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from server.settings import Settings
from wire import Refused

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def allowed(settings: Settings) -> frozenset[bytes] | None:
    """Returns the names by which clients may call a server; None if by any."""
    if not (settings.hosts or _is_loopback(settings.host)):
        return None
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return frozenset(name.lower().encode() for name in (*_LOOPBACK, host, *settings.hosts))


def expect(host: bytes, names: frozenset[bytes]) -> None:
    """Refuses a ``Host`` header that does not have one of the names, with any port (421)."""
    name, colon, port = host.rpartition(b":")
    if not colon or not (port.isdigit() or not port):
        name = host  # without a port
    if name.lower() not in names:
        raise Refused(
            f"the Host header is {host[:100].decode('latin-1')!r}; expected "
            f"{', '.join(sorted(name.decode() for name in names))}, or a name among the setting hosts",
            status=421,
        )


def guarded(app: WSGIApplication, names: frozenset[bytes]) -> WSGIApplication:
    """Returns a WSGI application that refuses other names."""

    def checked(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        try:
            expect(environ.get("HTTP_HOST", "").encode("latin-1"), names)
        except Refused as refused:
            start("421 Misdirected Request", [("Content-Type", "text/plain")])
            return [str(refused).encode()]
        return app(environ, start)

    return checked


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
