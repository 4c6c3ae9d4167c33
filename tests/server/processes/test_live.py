"""The server as a process of its own, met over real HTTP, by our clients and by others'."""

import asyncio
import concurrent.futures
import json
import subprocess
import sys
import time

import httpx
import numpy as np
import pytest
from parts import Local, command

from wire import Oracle, Refused
from wire.http import Endpoint
from wire.local import local_client
from wire.patient import Patient


def attack(endpoint, rows, sleep):
    """Asks about more than the quota allows, and notes everything that came back."""
    oracle = Oracle(Patient(endpoint, patience=60, sleep=sleep), endpoint.card, prices=endpoint.prices())
    answers = [oracle.collect(rows[:1]), oracle.collect(rows), oracle.collect(rows)]
    return answers, str(oracle.ended).partition(" this day")[0], (oracle.spent, oracle.requests, oracle.money)


def test_an_attack_in_process_and_over_http_meet_the_same(live, rows):
    url, account, config = live
    remote = Endpoint(url, model="limited", key=account("remote", "paying"))
    answers, ended, bill = attack(remote, rows, sleep=time.sleep)
    stated = remote.account()
    remote.close()

    local = Local(config)
    with local_client(local.app) as client:
        inside = Endpoint("http://local", model="limited", key=local.account("inside"), client=client)
        same_answers, same_ended, same_bill = attack(inside, rows, local.clock.sleep)
        same_stated = inside.account()
    for ours, theirs in zip(answers, same_answers, strict=True):
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_array_equal(ours.probs, theirs.probs)
    assert (ended, bill) == (same_ended, same_bill)
    assert bill == (500, stated["requests"], stated["micro_cents"])
    for entry in ("rows", "requests", "micro_cents", "models"):
        assert stated[entry] == same_stated[entry]


def test_parallel_clients_get_their_own_answers_and_bills(live, network, rows):
    url, account, _ = live
    keys = [account(f"client{i}", "paying") for i in range(4)]

    def work(number):
        endpoint = Endpoint(url, model="open", key=keys[number])
        mine = rows[number * 60 : number * 60 + 60]
        labels = np.concatenate([endpoint(mine[i : i + 3]).labels for i in range(0, 60, 3)])
        stated = endpoint.account()
        endpoint.close()
        return labels, stated

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for number, (labels, stated) in enumerate(pool.map(work, range(4))):
            mine = rows[number * 60 : number * 60 + 60]
            np.testing.assert_array_equal(labels, network.predict(mine).argmax(axis=1))
            assert (stated["rows"], stated["requests"]) == (60, 20)


@pytest.fixture
def keys(live):
    return [live[1](name, "paying") for name in ("good", "bad")]


async def test_a_bad_request_leaves_its_neighbours_alone(live, keys, network, rows):
    url, good, bad = live[0], *keys
    ok, wrong = ({"instances": x.tolist()} for x in (rows[:4], rows[:4] + 2))
    async with httpx.AsyncClient(base_url=url) as client:
        asked = [
            client.post("/v1/models/open:predict", json=body, headers={"Authorization": f"Bearer {key}"})
            for _ in range(10)
            for body, key in ((ok, good), (wrong, bad))
        ]
        replies = await asyncio.gather(*asked)
    labels = network.predict(rows[:4]).argmax(axis=1).tolist()
    for reply in replies[::2]:
        assert [p["label"] for p in reply.json()["predictions"]] == labels
    assert {reply.status_code for reply in replies[1::2]} == {400}
    for key, spent in ((good, 40), (bad, 0)):
        account_now = httpx.get(f"{url}/v1/account", headers={"Authorization": f"Bearer {key}"}).json()
        assert account_now["rows"] == spent


def test_a_broken_victim_keeps_the_server_down(config):
    weights = config.parent / "net" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    ended = command("server", "--config", config, cwd=config.parent)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: victim open: ") and "weights.safetensors" in ended.stderr
    card = json.loads((config.parent / "net" / "card.json").read_text())
    (config.parent / "net" / "card.json").write_text(json.dumps({**card, "family": "castle"}))
    ended = command("server", "--config", config, cwd=config.parent)
    assert ended.returncode == 2 and "castle" in ended.stderr and "Traceback" not in ended.stderr


def test_key_files_are_written_once(config, tmp_path):
    make = (
        "server",
        "--config",
        config,
        "accounts",
        "create",
        "a",
        "--plan",
        "free",
        "--key-file",
        tmp_path / "k",
    )
    assert command(*make, cwd=tmp_path).returncode == 0
    key = (tmp_path / "k").read_text()
    assert command(*make, cwd=tmp_path).returncode == 0 and (tmp_path / "k").read_text() == key
    again = command("server", "--config", config, "accounts", "create", "a", "--plan", "free", cwd=tmp_path)
    assert again.returncode == 2 and "already" in again.stderr
    plan = command("server", "--config", config, "accounts", "create", "b", "--plan", "none", cwd=tmp_path)
    assert plan.returncode == 2 and "there are paying, free, admin" in plan.stderr


def test_making_an_account_does_not_wait_for_torch(config):
    heavy = {"torch", "sklearn", "scipy.stats", "fastapi"}
    words = ["--config", str(config), "accounts", "list"]
    script = (
        f"import sys, server.command; server.command.main({words}); print(sorted({heavy} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"


def test_files_for_https_are_looked_at_first(config, tmp_path):
    def said(certificate, key):
        more = ("--tls-cert", tmp_path / certificate, "--tls-key", tmp_path / key)
        ended = command("server", "--config", config, *more, cwd=tmp_path)
        assert ended.returncode == 2 and ended.stderr.count("\n") == 1
        return ended.stderr

    (tmp_path / "empty.pem").write_text("")
    (config.parent / "net" / "card.json").unlink()  # no model is loaded before
    assert said("none.pem", "empty.pem") == f"error: {tmp_path / 'none.pem'}: No such file or directory\n"
    assert said("empty.pem", "none.key") == f"error: {tmp_path / 'none.key'}: No such file or directory\n"
    assert said("empty.pem", "empty.pem").startswith(f"error: {tmp_path / 'empty.pem'} and ")


def test_a_port_that_is_taken_is_one_line(live):
    url, _, config = live
    ended = command("server", "--config", config, "--port", url.rpartition(":")[2], cwd=config.parent)
    assert ended.returncode == 2 and ended.stderr.startswith("error: cannot serve at 127.0.0.1:")


def test_a_refusal_that_does_not_pass_is_not_waited_for(live, rows):
    url, account, _ = live
    with pytest.raises(Refused, match="no model"):
        Endpoint(url, model="other", key=account("lost"))
