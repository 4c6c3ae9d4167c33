"""DAWN at a live API: the answers of accounts, the ledger, and what administrators may do with it."""

import asyncio
import concurrent.futures
import contextlib
import signal
import threading
import time

import httpx
import numpy as np
import pytest
from parts import Local, keys_of_new, local_server, serving
from plain_prada import naive

import owner.command
from defenses import Prada
from defenses.answers.grid import Grid
from defenses.monitoring.records import read_entry
from defenses.store import open_store
from defenses.watermarks.key import WatermarkKey
from defenses.watermarks.ledger import Opening
from defenses.watermarks.mapping import points
from owner.evidence import load
from owner.marks_held import MarksHeld
from server.control.log import ControlLog
from server.settings import read_settings
from wire import BadInput, Refused
from wire.http import Endpoint
from zoo import folder

MARKED = """
state = "state"
[plans.free]
[plans.few]
defenses = [{ type = "top_k", k = 1 }, { type = "rounding", digits = 2 }]
[plans.owner]
skip = ["dawn"]
[plans.admin]
admin = true
[[victims]]
name = "marked"
folder = "net"
engine = "torch"
max_rows = 64
defenses = [{ type = "dawn", rate = 0.3 }]
"""


@pytest.fixture
def marked(config):
    config.write_text(MARKED)
    return config


@pytest.fixture
def local(marked):
    with local_server(marked) as server:
        yield server


def answers(endpoint, rows):
    return np.concatenate([endpoint(rows[at : at + 64]).labels for at in range(0, len(rows), 64)])


def opening_of(local, account, admin):
    reply = local.client.get(f"/admin/models/marked/marks/{account}", headers=admin)
    assert reply.status_code == 200, reply.text
    return Opening.from_json(reply.content, "there")


def test_all_accounts_get_the_same_answers_and_the_ledger_has_the_marks(local, network, rows):
    admin = local.headers("admin", "root")
    one, two = (answers(local.endpoint("marked", "free", name), rows) for name in ("one", "two"))
    few = answers(local.endpoint("marked", "few", "three"), rows)
    bare = answers(local.endpoint("marked", "owner", "owner"), rows)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, few)  # granularity leaves the mark
    np.testing.assert_array_equal(bare, network.predict(rows).argmax(axis=1))

    made = local.client.post("/admin/models/marked/marks/commit", headers=admin)
    assert made.status_code == 201
    opening = opening_of(local, "two", admin)
    assert opening.root == made.json()["root"] and opening.committed_at == made.json()["at"] == local.clock()
    common, marks = opening.verified()
    told = np.flatnonzero(one != bare)
    assert 50 < len(told) < 140
    assert [mark.row for mark in marks] == [rows[i].tobytes() for i in told]
    assert [(mark.victim_label, mark.told_label) for mark in marks] == [(bare[i], one[i]) for i in told]
    assert made.json()["marks"] == 3 * len(told)
    assert (common.model, common.rate, common.classes) == ("marked", 0.3, 5)
    assert common.victim == folder.fingerprint(network)

    key = local.client.post("/admin/models/marked/marks/open", headers=admin).json()["key"]
    keys = WatermarkKey(bytes.fromhex(key))
    assert keys.marked(0.3, *points(rows, Grid.parse(common.grid))) == told.tolist()
    done = [(event["do"], event["by"]) for event in local.client.get("/admin/audit", headers=admin).json()]
    assert done[-2:] == [("commit to marks", "root"), ("open the key of marks", "root")]


def test_who_may_see_marks(local, rows):
    admin, someone = local.headers("admin", "root"), local.headers("free", "someone")
    place = "/admin/models/marked/marks"
    for method, path in (("POST", "/commit"), ("POST", "/open"), ("GET", "/someone")):
        assert local.client.request(method, place + path, headers=someone).status_code == 403
        wrong = local.client.request(method, "/admin/models/other/marks" + path, headers=admin)
        assert wrong.status_code == 404 and "no model 'other'" in wrong.json()["detail"]
    for method, path in (("POST", "/commit"), ("GET", "/someone")):
        reply = local.client.request(method, place + path, headers=admin)
        assert reply.status_code == 404
    answers(local.endpoint("marked", "free", "another"), rows[:64])
    local.client.post(f"{place}/commit", headers=admin)
    for path, told in (
        ("/someone", "binds no marks of account 'someone'"),
        ("/someone?root=ab", "no commitment ab"),
    ):
        reply = local.client.get(place + path, headers=admin)
        assert reply.status_code == 404 and told in reply.json()["detail"]
    card = local.client.get("/v2/models/marked", headers=someone)
    assert card.status_code == 200 and "dawn" not in card.text and "mark" not in card.text.replace("marked", "")


def test_a_rate_is_fixed_whoever_changes_it(local, marked, rows):
    admin = local.headers("admin", "root")
    place = "/admin/models/marked/defenses"
    before = answers(local.endpoint("marked", "free", "one"), rows)
    reply = local.client.put(place, headers=admin, json={"defenses": [{"type": "dawn", "rate": 0.2}]})
    assert reply.status_code == 400 and "made with rate 0.3, not 0.2" in reply.json()["detail"]
    noisy = [{"type": "gaussian_noise", "sigma": 3.0}, {"type": "dawn", "rate": 0.3}]
    reply = local.client.put(place, headers=admin, json={"defenses": noisy})
    assert reply.status_code == 400 and "even if the victim is certain" in reply.json()["detail"]
    labels = [{"type": "label_only"}, {"type": "dawn", "rate": 0.3}]
    reply = local.client.put(place, headers=admin, json={"defenses": labels})
    assert reply.status_code == 200
    np.testing.assert_array_equal(answers(local.endpoint("marked", "free", "two"), rows), before)

    assert local.client.delete(place, headers=admin).status_code == 200
    marked.write_text(MARKED.replace("rate = 0.3", "rate = 0.1"))
    with pytest.raises(BadInput, match="victim marked: the marks of model marked were made with rate"):
        asyncio.run(Local(marked).app.service.begin())


def test_a_server_that_would_mark_otherwise_does_not_start(marked):
    asyncio.run(Local(marked).app.service.begin())
    marked.write_text(MARKED.replace("rate = 0.3", "rate = 0.1"))
    with (
        pytest.raises(RuntimeError, match=r"error: victim marked: the marks .* not 0\.1, which is fixed"),
        serving("--config", marked, cwd=marked.parent),
    ):
        pass


def test_a_plan_cannot_mark(marked):
    marked.write_text(MARKED.replace("[plans.free]", '[plans.free]\ndefenses = [{ type = "dawn", rate = 0.3 }]'))
    with pytest.raises(BadInput, match="plan free: dawn is the same for all accounts"):
        Local(marked)


def test_a_store_that_is_away_fails_closed(local, rows):
    endpoint = local.endpoint("marked", "free", "one")
    honest = answers(local.endpoint("marked", "owner", "owner"), rows)
    endpoint(rows[-1:])  # the ledger is begun at a start

    async def away(*arguments, **options):
        raise Refused("the store is unavailable", status=503, retry_after=1)

    append, local.store.append = local.store.append, away
    told = {}
    for i in range(100):
        try:
            told[i] = endpoint(rows[i : i + 1]).labels[0]
        except Refused as refused:
            assert (refused.status, refused.retry_after) == (503, 1)
    assert 40 < len(told) < 95 and all(told[i] == honest[i] for i in told)  # what is not marked needs no ledger
    local.store.append = append
    assert (answers(endpoint, rows[:100]) != honest[:100]).sum() == 100 - len(told)


def insistent(where, key, x, told, half):
    """Asks about four rows at a time, and again under the same id while no answer comes; notes the labels."""
    with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
        for at in range(0, len(x), 4):
            body = {"id": f"{at}", "instances": x[at : at + 4].tolist()}
            while True:
                with contextlib.suppress(httpx.TransportError):
                    reply = client.post(f"{where[-1]}/v1/models/marked:predict", json=body)
                    if reply.status_code == 200:
                        break
                    assert reply.status_code == 503, reply.text
                time.sleep(0.02)
            told += [prediction["label"] for prediction in reply.json()["predictions"]]
            if len(told) == len(x) // 5:
                half.set()


def logged(config):
    """Returns the rows and labels in the log of the only alarm, each request's once, and the alarm."""

    async def read():
        store = open_store(read_settings(config).store_url())
        control = ControlLog(store, lambda: 0.0)
        await control.catch_up()
        (alarm,) = control.alarms.all()
        tail = await store.read(alarm.log)
        await store.close()
        return alarm, [read_entry(entry) for entry in tail.entries]

    alarm, entries = asyncio.run(read())
    once = {entry.idempotency_key: entry for entry in reversed(entries)}
    rows = [np.float32(e.rows) / np.float32(255 if e.rows.dtype == np.uint8 else 1) for e in once.values()][::-1]
    return np.concatenate(rows), np.concatenate([e.labels for e in once.values()][::-1]), alarm


def test_a_killed_server_goes_on_where_it_was(marked, network, thief, tmp_path):
    marked.write_text(MARKED.replace("rate = 0.3 }]", 'rate = 0.3 }, { type = "prada", delta = 0.95 }]'))
    key, admin = keys_of_new(marked, thief="free", root="admin")
    said = network.predict(thief).argmax(axis=1)
    where, told, half = [], [], threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with serving("--config", marked, cwd=marked.parent) as (url, process):
            where.append(url)
            stream = pool.submit(insistent, where, key, thief, told, half)
            assert half.wait(60)
            process.send_signal(signal.SIGKILL)
            process.wait()
        with serving("--config", marked, cwd=marked.parent) as (url, _):
            where.append(url)
            stream.result(60)

            # Each row was observed once, and the alarm is the one of a server that was never killed.
            rows, labels, alarm = logged(marked)
            np.testing.assert_allclose(rows, thief.reshape(len(thief), -1), atol=1e-7)
            np.testing.assert_array_equal(labels, said)
            expected = naive(Prada(0.95), thief, said)[0]
            assert alarm.row == expected[0] > len(thief) // 5
            assert alarm.statistic == pytest.approx(expected[1], abs=1e-6)
            endpoint = Endpoint(url, key=key)
            assert endpoint.account()["rows"] == len(thief)

            # Nobody who saw a mark sees another answer, and the ledger has it.
            np.testing.assert_array_equal(answers(endpoint, thief), told)
            header = {"Authorization": f"Bearer {admin}"}
            place = f"{url}/admin/models/marked/marks"
            root = httpx.post(f"{place}/commit", headers=header).json()["root"]
            opened = httpx.get(f"{place}/thief", headers=header).content
            marks = Opening.from_json(opened, "there").verified()[1]
            assert [mark.row for mark in marks] == [thief[i].tobytes() for i in np.flatnonzero(told != said)]

            # The thief's model is the server itself: it answers as the thief was told.
            out = tmp_path / "evidence.json"
            asked = ["--url", url, "--key", key, "--independent", str(marked.parent / "net"), "--bits", "10"]
            owner.command.main(
                ["dawn", *asked, "--marks", f"{place}/thief", "--marks-key", admin, "--open", "--out", str(out)]
            )
            found = load(out, MarksHeld)
            assert found.verdict == "accused" and found.details.matches == found.details.marks == len(marks)
            verdict = tmp_path / "verdict.json"
            judging = ["--root", root, "--victim", str(marked.parent / "net"), "--out", str(verdict)]
            owner.command.main(["judge-dawn", str(out), *judging, *asked])
            assert load(verdict, MarksHeld).verdict == "accused"
            endpoint.close()
