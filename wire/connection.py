"""A connection to a server: requests that are sent again when they are lost, and refusals as errors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx

from wire.errors import BadInput, Refused, Unreachable
from wire.ratelimit import read_refusal


class Connection:
    """One account's connection to a server."""

    def __init__(
        self,
        *,
        key: str | None = None,
        client: httpx.Client | None = None,
        tries: int = 3,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Makes a connection.

        Args:
            key: The account's API key.
            client: The HTTP client to use; default: a new one.
            tries: Maximum number of times to send a request when the connection fails.
            sleep: Waits for a number of seconds between attempts.
        """
        self._client = client or httpx.Client(timeout=httpx.Timeout(60.0, connect=10.0))
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._tries, self._sleep = tries, sleep

    def send(self, method: str, url: str, **arguments: Any) -> httpx.Response:
        """Sends a request, and returns the answer of status 200.

        Raises:
            BadInput: The URL cannot be used.
            Refused: The server refused.
            Unreachable: The server did not answer, or failed.
        """
        headers = {**self._headers, **arguments.pop("headers", {})}
        for attempt in range(1, self._tries + 1):
            try:
                reply = self._client.request(method, url, headers=headers, **arguments)
                break
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise BadInput(f"{url}: {error}; expected http://HOST:PORT or https://HOST:PORT") from None
            except httpx.TransportError as error:
                if attempt == self._tries:
                    raise Unreachable(f"{url}: {error or type(error).__name__}") from None
                self._sleep(0.2 * 2**attempt)
        if reply.status_code == 200:
            return reply
        detail = _detail(reply)
        if reply.status_code < 500 or reply.status_code == 503:
            raise Refused(detail, status=reply.status_code, **read_refusal(reply.headers)._asdict())
        raise Unreachable(f"{url}: {detail}")

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()


def _detail(reply: httpx.Response) -> str:
    """Returns what an error says, in this server's form, in others' or in OpenAI's."""
    try:
        problem = reply.json()
        error = problem.get("error")
        text = problem.get("detail") or (error.get("message") if isinstance(error, dict) else error)
        text = text or problem.get("title")
    except (ValueError, AttributeError):
        text = None
    return f"{text or reply.text[:200] or reply.reason_phrase} (HTTP {reply.status_code})"
