"""Requests drawn at random: no failure of the server, and a ledger that agrees with the clients' own counts."""

import asyncio
import os

import pytest
from fuzzing import Client, Counts
from speaking import CONFIG, Speaking

from tests.tiny_language import tiny
from wire.local import local_client

CLIENTS = 32
OPEN = "refusals_burst = 1_000_000_000\n" + CONFIG.partition("defenses = [")[0]


def fuzzed(config, requests, seed):
    config.write_text(OPEN)
    server, counts = Speaking(config), Counts()
    with local_client(server.app) as server.client:
        key = server.key()["Authorization"]
        clients = [Client(server.app, key, tiny().tokens, counts, 1000 * seed + i) for i in range(CLIENTS)]

        async def each(client):
            for _ in range(requests // CLIENTS):
                await client.once()

        async def together():
            await asyncio.gather(*map(each, clients))

        server.client._transport._portal.call(together)
        server.post(plan="free")  # the next trip to the store notes what was answered
        billed = server.billed()
        print(f"seed {seed}: {sum(counts.statuses.values())} requests, {counts}")
        assert counts.faults == []
        assert sum(counts.statuses.values()) == requests // CLIENTS * CLIENTS
        assert counts.statuses[200] > requests / 4 and counts.statuses[400] > requests / 5 and counts.cut
        assert billed[:3] == (counts.prompt, counts.completion, counts.billed)
        assert server.statement()["unanswered"] == {"rows": 0, "requests": 0, "micro_cents": 0}


def test_a_thousand_requests_at_random(speaking):
    fuzzed(speaking, 1000, 1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_thousand_requests_at_random(speaking):
    fuzzed(speaking, int(os.environ.get("MLAAS_FUZZ", "100000")), int(os.environ.get("MLAAS_FUZZ_SEED", "0")))
