"""Several workers behind one socket are together one server."""

import asyncio
import collections
import concurrent.futures
import contextlib
import json
import os
import random
import re
import signal
import socket
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from parts import SHAPE, command, configured, free_port, keys_of_new, serving
from plain_prada import naive
from working import lives, until

from defenses import Prada
from defenses.monitoring.records import read_entry
from defenses.store import open_store
from server.control.log import ControlLog


def test_several_workers_need_a_store_that_they_share(config):
    ended = command("server", "--config", config, "--workers", 4, cwd=config.parent)
    assert ended.returncode == 2
    assert "4 workers need a store that they can share: expected redis://HOST:PORT/N, not sqlite:" in ended.stderr


def test_workers_are_not_begun_behind_a_stack_that_contradicts_itself(config, own_redis):
    stack = 'defenses = [{ type = "label_only" }, { type = "rounding", digits = 2 }]'
    config.write_text(config.read_text().replace('defenses = [{ type = "label_only" }]', stack))
    store = f"unix://{own_redis.socket_file}"
    ended = command("server", "--config", config, "--workers", 2, "--store", store, cwd=config.parent)
    assert ended.returncode == 2
    assert ended.stderr.count("error: victim labels") == 1 and "Traceback" not in ended.stderr


MORE = """
[[victims]]
name = "metered"
folder = "net"
max_rows = 64
defenses = [
    { type = "quota", rows = 200, per = "month" },
    { type = "rounding", digits = 3 },
    { type = "gaussian_noise", sigma = 0.05 },
]
[[victims]]
name = "watched"
folder = "net"
engine = "torch"
max_rows = 64
defenses = [{ type = "prada", delta = 0.95 }]
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory, network, cache, own_redis):
    """Runs servers of as many workers as wanted on one Redis; makes accounts and reads their ledgers."""
    own_redis.flushall()
    config = configured(tmp_path_factory.mktemp("workers"), network, cache)
    config.write_text(f'store = "unix://{own_redis.socket_file}"\n{config.read_text()}{MORE}')
    return Shared(config, f"unix://{own_redis.socket_file}")


class Shared:
    def __init__(self, config, url):
        self.config, self.url = config, url

    def serving(self, workers, *more):
        return serving("--config", self.config, "--workers", workers, *more, cwd=self.config.parent)

    def _with_store(self, use):
        async def play():
            store = open_store(self.url)
            try:
                return await use(store)
            finally:
                await store.close()

        return asyncio.run(play())

    def account(self, name):
        return {"Authorization": f"Bearer {keys_of_new(self.url, **{name: 'paying'})[0]}"}

    def watched(self, name):
        """Returns the alarm of an account, and what its log holds."""

        async def read(store):
            control = ControlLog(store, time.time)
            await control.catch_up()
            (alarm,) = [alarm for alarm in control.alarms.all() if alarm.account == name]
            return alarm, [read_entry(content) for content in (await store.read(alarm.log)).entries]

        return self._with_store(read)

    def ledger(self, name):
        levels = self._with_store(lambda store: store.levels(name))
        return {meter: level.level for meter, level in levels.items() if "/ledger/" in meter}


def test_who_comes_after_all_workers_have_closed_is_not_let_in(shared):
    body = json.dumps({"instances": [[[[0.5] * 8] * 8]]}).encode()
    key = shared.account("late")["Authorization"]
    head = f"POST /v1/models/open:predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: {key}"
    with shared.serving(2) as (url, process):
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        with socket.create_connection(address, 10) as connection:
            connection.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body[:9])
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(2.5)  # the drain takes one second
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address, 1)
            connection.sendall(body[9:])
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert process.wait(20) == 0


def test_connections_are_spread_over_the_workers(shared):
    with shared.serving(2) as (url, _), contextlib.ExitStack() as closing:
        clients = [closing.enter_context(httpx.Client(base_url=url, timeout=60)) for _ in range(32)]
        answered = [client.get("/v2/health/live").headers["X-Request-Id"].partition("-")[0] for client in clients]
    shares = collections.Counter(answered)
    assert len(shares) == 2 and min(shares.values()) > 3  # by a hash: three of a million runs have fewer


def recorded(rows):
    """A recorded traffic: requests with ids, of two accounts; some are sent twice, some are malformed."""
    rng = random.Random(0)
    traffic = []
    for number in range(120):
        model = rng.choice(["open", "metered", "labels"])
        start = rng.randrange(200)
        x = rows[start : start + 5]
        if number % 20 == 7:
            x = x + 5
        body = {"id": f"r{number}", "instances": x.tolist()}
        traffic += [(rng.randrange(2), model, body)] * (2 if number % 3 == 0 else 1)
    return traffic


def connecting(url):
    """Returns a client that opens a connection for every request, so that each may meet another worker."""
    return httpx.Client(base_url=url, timeout=60, limits=httpx.Limits(max_keepalive_connections=0))


def play(url, traffic, headers):
    """Sends traffic over many connections, and returns what came, by account and request id, and who answered."""

    def send(request):
        who, model, body = request
        reply = client.post(f"/v1/models/{model}:predict", json=body, headers=headers[who])
        told = reply.json()
        return (
            (who, body["id"], model),
            (reply.status_code, told.get("predictions")),
            reply.headers["X-Request-Id"],
        )

    with connecting(url) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        came = list(pool.map(send, traffic))
    answers = collections.Counter(json.dumps([asked, answer]) for asked, answer, _ in came)
    return answers, {request.partition("-")[0] for *_, request in came}


def agrees_with_the_paper(shared, name, network, thief):
    """Checks an account's alarm against the plain PRADA over its log, in which each row stands once."""
    alarm, entries = shared.watched(name)
    rows = [np.float32(e.rows) / np.float32(255 if e.rows.dtype == np.uint8 else 1) for e in entries]
    x, labels = np.concatenate(rows), np.concatenate([e.labels for e in entries])
    np.testing.assert_array_equal(labels, network.predict(x.reshape(-1, *SHAPE)).argmax(axis=1))
    by_row = np.lexsort(x.T), np.lexsort(thief.reshape(len(thief), -1).T)
    np.testing.assert_allclose(x[by_row[0]], thief.reshape(len(thief), -1)[by_row[1]], atol=1e-7)
    row, w = naive(Prada(0.95), x, labels)[0]
    assert alarm.row == row and alarm.statistic == pytest.approx(w, abs=1e-6)


def test_one_worker_and_four_give_the_same_answers_refusals_alarms_and_bills(shared, network, rows, thief):
    came, ledgers, answered, counted, metrics = {}, {}, {}, {}, free_port()
    steps = [(0, "watched", {"id": f"s{at}", "instances": thief[at : at + 5].tolist()}) for at in range(0, 500, 5)]
    for workers in (1, 4):
        headers = [shared.account(f"{name}-{workers}") for name in "ab"]
        traffic = recorded(rows)
        with shared.serving(workers, "--metrics-port", metrics) as (url, _):
            came[workers], answered[workers] = play(url, traffic, headers)
            # Which of the equal requests beyond the quota are refused is a matter of who comes first.
            equal = {"instances": rows[:10].tolist()}
            spent = [(who, "metered", {"id": f"q{number}", **equal}) for number in range(30) for who in (0, 1)]
            last, _ = play(url, spent, headers)
            play(url, steps, [shared.account(f"thief-{workers}")])
            shown = httpx.get(f"http://127.0.0.1:{metrics}/metrics").text.splitlines()
            # "unready" were those who asked whether all workers had come up.
            counted[workers] = sorted(
                line for line in shown if re.match('mlaas_(rows|refusals)_total.*(?<!unready)"}', line)
            )
        agrees_with_the_paper(shared, f"thief-{workers}", network, thief)
        statuses = collections.Counter(
            (json.loads(told)[0][0], json.loads(told)[1][0]) for told in last.elements()
        )
        ledgers[workers] = [shared.ledger(f"{name}-{workers}") for name in "ab"], statuses
        assert {status for _, status in statuses} == {200, 429}
    assert came[1] == came[4]
    assert ledgers[1] == ledgers[4]
    assert counted[1] == counted[4] and len(counted[1]) == 6  # four models, two reasons
    assert len(answered[1]) == 1 and len(answered[4]) > 1


def workers_of(process):
    """Returns the workers of a server: what its fork server has started."""

    def children(pid):
        return map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())

    def started(pid):
        return Path(f"/proc/{pid}/cmdline").read_bytes()

    return [worker for pid in children(process.pid) if b"forkserver" in started(pid) for worker in children(pid)]


def test_workers_that_are_killed_in_the_middle_lose_and_double_nothing(shared, rows):
    headers, clients, each = shared.account("stormed"), 4, 60
    seen = collections.Counter()

    def client(number):
        rng = np.random.default_rng(number)
        for request in range(each):
            n = int(rng.integers(1, 9))
            body = {"id": f"{number}/{request}", "instances": rows[:n].tolist()}
            while True:
                with contextlib.suppress(httpx.TransportError):
                    reply = http.post("/v1/models/open:predict", json=body, headers=headers)
                    if reply.status_code == 200:
                        break
                    assert reply.status_code == 503, reply.text
                time.sleep(0.05)
            assert len(reply.json()["predictions"]) == n
            seen.update(rows=n, requests=1)
            time.sleep(0.02)

    with shared.serving(2) as (url, process):
        with connecting(url) as http, concurrent.futures.ThreadPoolExecutor(clients) as pool:
            storm = [pool.submit(client, number) for number in range(clients)]
            killed = []
            while len(killed) < 2 and not all(done.done() for done in storm):
                time.sleep(0.7)
                killed.append(random.choice(workers_of(process)))
                os.kill(killed[-1], signal.SIGKILL)
            for done in storm:
                done.result(120)
        alive = workers_of(process)
    assert len(set(killed)) == 2
    until(lambda: not any(map(lives, alive)))
    assert seen["requests"] == clients * each
    ledger = shared.ledger("stormed")
    assert (ledger["open/ledger/rows"], ledger["open/ledger/requests"]) == (seen["rows"], seen["requests"])
