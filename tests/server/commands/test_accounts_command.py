"""The command that refunds what a killed server left charged and unanswered."""

import asyncio
import concurrent.futures
import contextlib
import re

import httpx
import pytest
from parts import command, keys_of_new, serving

from defenses.admission.admission import ledgers
from defenses.store import Charge, Counter, open_store
from server.settings import read_settings

CLIENTS = 8


def ledger(config, account="a"):
    async def read():
        store = open_store(read_settings(config).store_url())
        try:
            return ledgers(await store.levels(account)).get("open", {})
        finally:
            await store.close()

    return asyncio.run(read())


def asked_until_killed(url, headers, rows, process):
    """Asks from many clients without ids, kills the server meanwhile, and returns what was answered."""

    def client(number):
        answered = []
        body = {"instances": rows[: number + 1].tolist()}
        with httpx.Client(base_url=url, headers=headers) as http, contextlib.suppress(httpx.TransportError):
            while True:
                reply = http.post("/v1/models/open:predict", json=body)
                if reply.status_code == 200:
                    answered.append(len(reply.json()["predictions"]))
        return answered

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(client, number) for number in range(CLIENTS)]
        concurrent.futures.wait(asking, timeout=1.5)
        process.kill()
        return [rows for done in asking for rows in done.result(60)]


def test_what_killed_servers_left_unanswered_is_refunded(config, rows):
    (key,) = keys_of_new(config, a="paying")
    answered, kills, billed = [], 0, {"requests": 0}
    while billed["requests"] <= len(answered) and kills < 15:  # until a kill leaves something
        kills += 1
        with serving("--config", config, cwd=config.parent) as (url, process):
            answered += asked_until_killed(url, {"Authorization": f"Bearer {key}"}, rows, process)
        billed = ledger(config)
    assert billed["requests"] > len(answered) > kills * CLIENTS
    reconciled = command("server", "--config", config, "accounts", "reconcile", "--idle", "0", cwd=config.parent)
    assert reconciled.returncode == 0, reconciled.stderr
    refunded = int(re.search(r"^a +open +(\d+) requests", reconciled.stdout)[1])
    left = ledger(config)
    assert left["requests"] == billed["requests"] - refunded
    # What was answered after the last trip to the store is refunded too.
    assert len(answered) - kills * CLIENTS <= left["requests"] <= len(answered)
    assert left["rows"] <= sum(answered)
    print(len(answered), billed, left, reconciled.stdout)


def test_what_is_open_shows_in_the_statement_and_its_refund_in_the_audit(config, local):
    headers = local.headers("paying", "someone")

    def unanswered():
        reply = local.client.get("/v1/account", headers=headers)
        assert reply.status_code == 200, reply.text
        return reply.json()["unanswered"]

    async def charge():
        store = open_store(local.settings.store_url())
        bill = [Counter(f"open/ledger/{entry}", n) for entry, n in (("rows", 5), ("requests", 1))]
        await store.charge(Charge("someone", bill))
        await store.close()

    assert unanswered() == {"rows": 0, "requests": 0, "micro_cents": 0}
    asyncio.run(charge())
    assert unanswered() == {"rows": 5, "requests": 1, "micro_cents": 0}
    for idle, told in ((1000, "Nothing to refund"), (0, "1 requests, 5 rows, 0.0000 refunded")):
        done = command("server", "--config", config, "accounts", "reconcile", "--idle", idle, cwd=config.parent)
        assert told in done.stdout, done.stderr
    assert unanswered() == {"rows": 0, "requests": 0, "micro_cents": 0}
    assert local.client.get("/v1/account", headers=headers).json()["models"]["open"]["rows"] == 0
    audit = local.client.get("/admin/audit", headers=local.headers("admin", "root")).json()
    told = {"do": "refund unanswered requests", "account": "someone", "model": "open", "rows": 5, "requests": 1}
    assert told.items() <= audit[-2].items()


@pytest.mark.parametrize("idle", ["-1", "soon"])
def test_an_idle_time_that_is_none_is_refused(config, idle):
    done = command("server", "--config", config, "accounts", "reconcile", "--idle", idle, cwd=config.parent)
    assert done.returncode == 2 and "--idle" in done.stderr
