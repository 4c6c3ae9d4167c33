"""The server on a GPU, over HTTP: ``python -m benchmarks.gpu.served SECONDS``."""

from __future__ import annotations

import itertools
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.gpu.models import MODELS, Model, busy, emit
from benchmarks.serving.encodings import BINARY
from benchmarks.serving.load import Tally
from benchmarks.serving.load import load as load_server
from benchmarks.serving.servers import CONFIG, DEFENSES
from experiments.parties import Parties, Server
from wire import Array
from zoo import folder

LOADS = ((64, 4), (64, 32), (1, 32), (1, 256))  # rows of a request, connections
DEFENDED = ((64, 32), (1, 32))  # those of a victim behind all defences
ROUNDS = 3
CLIENTS = 4  # processes among which the connections are divided
ACCOUNTS = 4
WARMUP = 0.5  # seconds


def main() -> None:
    """Measures every model, bare and behind all defences, in some rounds."""
    seconds = float(sys.argv[1])
    with Parties() as parties:
        server, keys = serve(parties, "cuda", MODELS)
        for number, (name, model) in itertools.product(range(ROUNDS), MODELS.items()):
            length = model.slowness * seconds
            for defended, loads in ((False, LOADS), (True, DEFENDED)):
                victim = f"{name}-defended" if defended else name
                for rows, connections in loads:
                    told = loaded(server, keys, victim, model.rows(rows), connections, length)
                    emit(round=number, model=name, defended=defended, rows=rows, connections=connections, **told)


def serve(
    parties: Parties, device: str, models: dict[str, Model], *, workers: int = 1, store: str | None = None
) -> tuple[Server, list[str]]:
    """Starts a server with untrained models, each bare and behind all defences; returns it and accounts' keys."""
    home = parties.folder / f"{workers}-workers"
    home.mkdir()
    config = CONFIG.format(store=store or f"sqlite:///{home}/range.sqlite", workers=workers)
    for name, model in models.items():
        if not (parties.folder / name).exists():
            folder.save(model.network("cpu"), parties.folder / name)
        for defended in (False, True):
            config += (
                f'[[victims]]\nname = "{name}{"-defended" if defended else ""}"\n'
                f'folder = "{parties.folder / name}"\ndtype = "{model.dtype}"\n' + (DEFENSES if defended else "")
            )
    (home / "range.toml").write_text(config)
    server = parties.serve(home.name, home / "range.toml", ["--device", device])
    return server, [server.account(f"account-{number}", "user") for number in range(ACCOUNTS)]


def loaded(
    server: Server, keys: Sequence[str], victim: str, x: Array, connections: int, seconds: float
) -> dict[str, Any]:
    """Loads a victim with requests of the same rows from some connections; returns the figures."""
    headers = [{"Authorization": f"Bearer {key}"} for key in keys]
    requests = [[BINARY.request(victim, x, headers[number % len(keys)])] for number in range(connections)]
    shares = [requests[client::CLIENTS] for client in range(min(CLIENTS, connections))]

    def client(share: Sequence[Sequence[bytes]]) -> Tally:
        return load_server([server.pid], server.port, share, warmup=WARMUP, seconds=seconds)

    with busy() as samples, ThreadPoolExecutor(len(shares)) as pool:
        tallies = list(pool.map(client, shares))
    errors = Counter[str]()
    for tally in tallies:
        errors.update(tally.errors)
    rate = sum(tally.answers / tally.seconds for tally in tallies)
    cpu = statistics.mean(tally.server_cpu / tally.seconds for tally in tallies)
    return {
        "rows_per_second": len(x) * rate,
        "p50": statistics.median(tally.p50 for tally in tallies),
        "p99": max(tally.p99 for tally in tallies),
        "server_cpu_microseconds_a_row": 1e6 * cpu / (len(x) * rate) if rate else None,
        "gpu_busy_percent": statistics.mean(samples[2:]) if len(samples) > 2 else None,
        "errors": dict(errors),
        "first_error": next((tally.first_error for tally in tallies if tally.first_error), ""),
    }


if __name__ == "__main__":
    main()
