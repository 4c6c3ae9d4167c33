"""Clients and an administrator, who note what they see."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx
import numpy as np
from cluster import LIMIT, PLAIN, SHAPE, WATCHED
from history import Act, History, Reading, Request

from wire import Array

SECONDS = 2.5  # how long a client waits for an answer
MOST_ROWS = 24
TRIES = 8  # of a request with an id


@dataclass
class Account:
    """An account of the tests: its name, its present key, and those that were rotated away."""

    name: str
    key: str
    old_keys: list[str] = field(default_factory=list)


class Clients:
    """Clients of some servers that share a store.

    Attributes:
        history: What they saw.
        stopping: Whether they are to send no further request.
    """

    def __init__(self, urls: list[str], seed: int, admin_key: str) -> None:
        """Takes the servers' URLs and an administrator's key."""
        self.history, self.stopping = History(), False
        self._urls, self._rng = urls, random.Random(seed)
        self._admin = {"Authorization": f"Bearer {admin_key}"}
        self._http = httpx.AsyncClient(timeout=SECONDS)
        self._number = 0

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.aclose()

    async def ask_in_turn(self, accounts: list[Account]) -> None:
        """Asks on behalf of one account after another, each until both its quotas are used up."""
        for account in accounts:
            walk, models = Walk(self._rng.getrandbits(32)), [WATCHED, WATCHED, PLAIN]
            while models and not self.stopping:
                model = self._rng.choice(models)
                request = await self._ask(account, model, walk(self._rng.randint(1, MOST_ROWS)))
                if request.status == 403 and len(request.rows) <= 3:
                    models = [other for other in models if other != model]
                if self._rng.random() < 0.2:
                    await self._read(account)
                await asyncio.sleep(self._rng.uniform(0, 0.05))

    async def ask_once(self, account: Account) -> None:
        """Asks the watched model about one row, so that an alarm which is due is raised."""
        await self._ask(account, WATCHED, Walk(self._rng.getrandbits(32))(1))

    async def _ask(self, account: Account, model: str, rows: Array) -> Request:
        self._number += 1
        id = f"r{self._number}" if self._rng.random() < 0.6 else None
        key = account.key
        if account.old_keys and self._rng.random() < 0.2:
            key = self._rng.choice(account.old_keys)
        request = Request(account.name, model, rows, id, key, monotonic())
        self.history.requests.append(request)
        body: dict[str, Any] = {"instances": rows.tolist()}
        if id is not None:
            body["id"] = id
        content = json.dumps(body)
        for _ in range(TRIES if id is not None else 1):
            reply = await self._send("POST", f"/v1/models/{model}:predict", key, content=content)
            if reply is None or reply.status_code >= 500:
                request.unsure = True
                request.status = 0 if reply is None else reply.status_code
                if self.stopping:
                    break
                await asyncio.sleep(0.1)
                continue
            request.answered, request.status = monotonic(), reply.status_code
            left = re.search(r'"total";r=(\d+)', reply.headers.get("RateLimit", ""))
            request.left = int(left[1]) if left else None
            if reply.status_code == 200:
                told = reply.json()["predictions"]
                request.labels = [row["label"] for row in told]
                (request.shown,) = {sum(p is not None for p in row["probabilities"]) for row in told}
            break
        return request

    async def _read(self, account: Account) -> None:
        sent = monotonic()
        reply = await self._send("GET", "/v1/account", account.key)
        if reply is not None and reply.status_code == 200:
            for model, ledger in reply.json()["models"].items():
                self.history.readings.append(Reading(account.name, model, sent, monotonic(), **ledger))

    async def _send(self, method: str, path: str, key: str, **more: Any) -> httpx.Response | None:
        """Sends a request to any of the servers; returns None if no answer came."""
        headers = {"Authorization": f"Bearer {key}"}
        with contextlib.suppress(httpx.TransportError):
            return await self._http.request(method, self._rng.choice(self._urls) + path, headers=headers, **more)
        return None

    async def administrate(self, rotated: Account, names: set[str]) -> None:
        """Rotates an account's keys, replaces stacks and clears alarms of some accounts, one act after another."""
        acts: list[Callable[[], Awaitable[None]]] = [
            self._replace,
            lambda: self._clear(names),
            lambda: self._rotate(rotated),
        ]
        while not self.stopping:
            await self._rng.choice(acts)()
            await asyncio.sleep(self._rng.uniform(0.05, 0.3))

    async def _act(self, do: str, of: str, method: str, path: str, what: int | None = None, **more: Any) -> Any:
        """Notes an act, and returns what the server answered, None if it did not acknowledge it."""
        sent, at = monotonic(), len(self.history.acts)
        self.history.acts.append(Act(do, of, sent, what=what))
        reply = await self._send(method, path, self._admin["Authorization"].removeprefix("Bearer "), **more)
        if reply is None or reply.status_code >= 300:
            return None
        told = reply.json()
        self.history.acts[at] = Act(do, of, sent, monotonic(), told.get("key", what))
        return told

    async def _rotate(self, account: Account) -> None:
        place = f"/admin/accounts/{account.name}/keys"
        told = await self._act("rotate", account.name, "POST", f"{place}/rotate")
        while told is None and not self.stopping:  # the new key is lost, and the old one may be revoked
            told = await self._act("add key", account.name, "POST", place)
        if told is not None:
            account.old_keys.append(account.key)
            account.key = told["key"]

    async def _replace(self) -> None:
        shown = self._rng.randint(1, 4)
        stack = {"defenses": [LIMIT, {"type": "top_k", "k": shown}]}
        await self._act("replace", PLAIN, "PUT", f"/admin/models/{PLAIN}/defenses", shown, json=stack)

    async def _clear(self, names: set[str]) -> None:
        standing = [account for account, _ in sorted(await self.alarms()) if account in names]
        if standing:
            account = self._rng.choice(standing)
            await self._act("clear", account, "DELETE", f"/admin/alarms/{account}/{WATCHED}/prada")

    async def alarms(self) -> set[tuple[str, int]]:
        """Returns account and row of each alarm that stands, empty if the server does not say."""
        reply = await self._send("GET", "/admin/alarms", self._admin["Authorization"].removeprefix("Bearer "))
        if reply is None or reply.status_code != 200:
            return set()
        return {(alarm["account"], alarm["row"]) for alarm in reply.json()}

    async def follow(self) -> None:
        """Reads the stream of alarms, again and again, until it is cancelled."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                url = self._rng.choice(self._urls) + "/admin/alarms/stream"
                async with self._http.stream("GET", url, headers=self._admin) as reply:
                    event = ""
                    async for line in reply.aiter_lines():
                        field, _, value = line.partition(": ")
                        if field == "event":
                            event = value
                        elif field == "data" and event == "alarm":
                            alarm = json.loads(value)
                            self.history.streamed.add((alarm["account"], alarm["row"]))
            await asyncio.sleep(0.1)


class Walk:
    """Rows as JbDA sends them: random ones, then steps from earlier ones."""

    def __init__(self, seed: int) -> None:
        """Has made no row yet."""
        self._rng = np.random.default_rng(seed)
        self._rows: list[Array] = []

    def __call__(self, n: int) -> Array:
        """Returns so many new rows."""
        for _ in range(n):
            if len(self._rows) < 10:
                self._rows.append(self._rng.integers(0, 256, SHAPE, np.uint8))
            else:
                origin = self._rows[self._rng.integers(len(self._rows))].astype(np.int64)
                self._rows.append((origin + 25 * self._rng.choice([-1, 1], SHAPE)).clip(0, 255).astype(np.uint8))
        return np.stack(self._rows[-n:])
