"""Injects faults at random into servers under load, and checks what their clients saw: ``make chaos``.

A run is a sequence of rounds on one cluster. Each round has accounts, clients and a history of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

import httpx
from checker import Rules, check, counted
from clients import Account, Clients, Walk
from cluster import DETECTOR, PER_REQUEST, PER_ROW, PLAIN, QUOTA, WATCHED, Cluster, network, prepare
from faults import Fault, Faults
from history import Outcome

from defenses import Consequence, Monitored, Site
from defenses.admission.admission import ledgers
from defenses.monitoring.records import read_entry
from defenses.store import Store, open_store
from defenses.watermarks.ledger import Mark, MarkLedger
from defenses.watermarks.ledger.chain import Chain
from defenses.watermarks.ledger.commitment import log_of
from server.control.log import ControlLog
from wire import Array, Card, Refused
from zoo.folder import fingerprint

EACH = 5  # faults of a round
LISTS = 4  # lists of accounts of a round, each worked off in turn; the first has two clients
ACCOUNTS = 4  # of a list
OVERLAP = 0.3  # share of faults that do not wait for the recovery from the one before
PATIENCE = 120.0  # seconds for a cluster to recover
SETTLED = 15.0  # seconds after which refunds of lost requests have been made


@dataclass
class Result:
    """What a run found.

    Attributes:
        store: The store.
        faults: The faults that were injected.
        requests: How many requests were acknowledged, unacknowledged and refused.
        discrepancies: What the checker found.
    """

    store: str
    faults: list[Fault] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    discrepancies: list[str] = field(default_factory=list)


class Run:
    """A run on one cluster."""

    def __init__(self, path: Path, store: str, seed: int) -> None:
        """Prepares a cluster in a folder."""
        path.mkdir()
        prepare(path)
        self.result, self._seed, self._round = Result(store), seed, 0
        self._cluster = Cluster(path, store)
        self._faults = Faults(self._cluster, seed)
        victim = network()

        def predict(rows: Array) -> Array:
            return victim.predict(rows.reshape(-1, *victim.input_shape).astype("f4") / 255).argmax(axis=1)

        self._rules = Rules(QUOTA, PER_ROW, PER_REQUEST, WATCHED, DETECTOR, predict)
        self._fingerprint = fingerprint(victim)

    async def play(self, faults: int) -> Result:
        """Injects a number of faults, and returns what was found."""
        self._cluster.start()
        try:
            async with asyncio.timeout(PATIENCE):
                (self._admin,) = await self._create("admin", ["admin"])
                (self._probe,) = await self._create("probing", ["probe"])
                await self._recover()
            while len(self.result.faults) < faults:
                await self._play_round(min(EACH, faults - len(self.result.faults)))
        finally:
            self._cluster.stop()
        return self.result

    async def _play_round(self, faults: int) -> None:
        self._round += 1
        names = [f"r{self._round}-{i}" for i in range(LISTS * ACCOUNTS)]
        accounts = await self._create("paying", names)
        lists = [accounts[i::LISTS] for i in range(LISTS)]
        urls = [server.url for server in self._cluster.servers]
        clients = Clients(urls, self._seed * 1000 + self._round, self._admin.key)
        following = asyncio.create_task(clients.follow())
        try:
            async with asyncio.TaskGroup() as group:
                for each in (lists[0], *lists):
                    group.create_task(clients.ask_in_turn(each))
                group.create_task(clients.administrate(lists[-1][0], set(names)))
                group.create_task(self._inject(faults, clients))
            found = await self._settled(clients, accounts)
        finally:
            following.cancel()
            await asyncio.wait([following])
            await clients.close()
        self.result.requests += counted(clients.history)
        self.result.discrepancies += [f"{self.result.store}, round {self._round}: {each}" for each in found]

    async def _inject(self, faults: int, clients: Clients) -> None:
        """Injects faults, waits until the cluster has recovered, and tells the clients to stop."""
        recovering: list[asyncio.Task[None]] = []
        for _ in range(faults):
            await asyncio.sleep(self._faults.rng.uniform(0.1, 0.6))
            kind = self._faults.draw()
            await self._faults.kinds[kind]()
            recovering.append(asyncio.create_task(self._note_recovery(kind)))
            if self._faults.rng.random() > OVERLAP:
                await asyncio.wait(recovering)
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*recovering)
        await asyncio.sleep(0.3)
        clients.stopping = True

    async def _note_recovery(self, kind: str) -> None:
        begun = monotonic()
        await self._recover()
        self.result.faults.append(Fault(kind, monotonic() - begun))

    async def _recover(self) -> None:
        """Waits until all servers are ready, and each has answered a request about a row."""
        headers = {"Authorization": f"Bearer {self._probe.key}"}
        body = {"instances": Walk(0)(1).tolist()}
        async with httpx.AsyncClient(timeout=2, headers=headers) as http:
            for server in self._cluster.servers:
                while True:
                    server.revive()  # it may have met a full disk while it started
                    with contextlib.suppress(httpx.TransportError):
                        ready = await http.get(f"{server.url}/v2/health/ready")
                        asked = await http.post(f"{server.url}/v1/models/{PLAIN}:predict", json=body)
                        if ready.status_code == asked.status_code == 200:
                            break
                    await asyncio.sleep(0.05)

    async def _settled(self, clients: Clients, accounts: list[Account]) -> list[str]:
        """Returns the discrepancies that stay after refunds had time to be made."""
        deadline = monotonic() + SETTLED
        while True:
            await self._recover()  # its charges bring outstanding refunds along
            names = {account.name for account in accounts}
            outcome = await self._outcome(names, {(a, row) for a, row in await clients.alarms() if a in names})
            found = await asyncio.to_thread(check, clients.history, outcome, self._rules)
            if not found or monotonic() > deadline:
                return found
            await asyncio.sleep(0.5)

    async def _outcome(self, names: set[str], standing: set[tuple[str, int]]) -> Outcome:
        async with _opened(self._cluster.store) as store:
            outcome, control = Outcome(standing=standing), ControlLog(store, time.time)
            await control.catch_up()
            outcome.events = [event for event in control.audit if event.get("account") in names]
            await MarkLedger(store, WATCHED).read()  # raises if a chain is broken
            site = Site(WATCHED, Card(WATCHED, (1, 8, 8), 5), self._fingerprint, b"-", store, control.alarms, None)
            monitor = Monitored(DETECTOR, "prada", Consequence()).bind(site)
            for name in names:
                for model, entries in ledgers(await store.levels(name)).items():
                    outcome.ledgers[name, model] = entries["rows"], entries["requests"], entries["micro_cents"]
                log = await store.read(monitor.account(name).log)
                outcome.entries[name] = [read_entry(entry) for entry in log.entries]
                outcome.marks[name] = await _marks(store, name)
        return outcome

    async def _create(self, plan: str, names: list[str]) -> list[Account]:
        """Creates accounts, as the command line does."""
        async with _opened(self._cluster.store) as store:
            accounts = ControlLog(store, time.time).accounts
            while True:
                with contextlib.suppress(Refused):  # the store is starting
                    return [Account(name, await accounts.create(name, plan, "the tests")) for name in names]
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _opened(url: str):
    store = open_store(url)
    try:
        yield store
    finally:
        await store.close()


async def _marks(store: Store, name: str) -> list[Mark]:
    found: list[Mark] = []
    log = log_of(WATCHED, name)
    await Chain(store, log, lambda members, row: found.append(Mark.of(members, row, log))).catch_up()
    return found


async def play(path: Path, stores: list[str], faults: int, seed: int) -> list[Result]:
    """Injects a number of faults into a cluster on each store, at the same time."""
    each = -(-faults // len(stores))
    return await asyncio.gather(*(Run(path / store, store, seed + i).play(each) for i, store in enumerate(stores)))


def table(results: list[Result]) -> str:
    """Returns what was found, as text."""
    lines = [f"{'store':8}{'fault':18}{'faults':>8}{'recovered in s: median':>26}{'longest':>10}"]
    for result in results:
        for kind in sorted({fault.kind for fault in result.faults}):
            seconds = [fault.recovered for fault in result.faults if fault.kind == kind]
            lines.append(
                f"{result.store:8}{kind:18}{len(seconds):8}{statistics.median(seconds):26.2f}{max(seconds):10.2f}"
            )
    counts = ("acknowledged", "unacknowledged", "refused")
    lines += ["", f"{'store':8}{'faults':>8}{'requests':>10}" + "".join(f"{name:>16}" for name in counts)]
    lines[-1] += f"{'discrepancies':>16}"
    for result in results:
        numbers = [result.requests[name] for name in counts]
        lines.append(
            f"{result.store:8}{len(result.faults):8}{sum(numbers):10}"
            + "".join(f"{number:16}" for number in numbers)
            + f"{len(result.discrepancies):16}"
        )
    return "\n".join(lines)


def main() -> int:
    """Runs the command; its exit status says whether there are discrepancies."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--faults", type=int, default=200, help="over all stores (default: 200)")
    parser.add_argument("--store", action="append", choices=("sqlite", "redis"), help="default: both")
    parser.add_argument("--seed", type=int, default=None, help="seed of faults and requests (default: a new one)")
    parser.add_argument("--keep", type=Path, help="folder for the servers' logs and stores, to look into")
    arguments = parser.parse_args()
    seed = secrets.randbelow(2**20) if arguments.seed is None else arguments.seed
    stores, begun = arguments.store or ["sqlite", "redis"], monotonic()
    with TemporaryDirectory() as folder:
        results = asyncio.run(play(arguments.keep or Path(folder), stores, arguments.faults, seed))
    print(table(results))
    discrepancies = [each for result in results for each in result.discrepancies]
    print(f"\n{monotonic() - begun:.0f} s with --seed {seed}", *discrepancies, sep="\n")
    return bool(discrepancies)


if __name__ == "__main__":
    sys.exit(main())
