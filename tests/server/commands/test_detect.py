"""Detectors over a log: a served victim's own, which raises the alarms that it raised live, and other people's."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from parts import SHAPE, configured, local_server

from defenses import Prada
from server.command import main
from server.commands.calibrate import _dismissed
from server.commands.harmless import Harmless
from server.settings import read_settings
from wire import BadInput, Card
from zoo import folder
from zoo.data.pool import Pool
from zoo.families import FAMILIES
from zoo.network import Network
from zoo.training import Training

BENIGN = [0.5, 0.1, 0.1, 0.1, 0.05, 0.05, 0.02, 0.02, 0.02, 0.02, 0.02]
WATCHED = f"""
access_log = "log/access.jsonl"
state = "state"
[plans.free]
[plans.admin]
admin = true
[[victims]]
name = "one"
folder = "deep"
engine = "torch"
max_rows = 64
defenses = [
    {{ type = "rounding", digits = 1 }},
    {{ type = "prada", delta = 0.95, reaction = "coarsen" }},
    {{ type = "hoda", delta = 0.5, benign = {BENIGN}, rows = 50 }},
    {{ type = "ood", folder = "filter", delta = 0.3, rows = 40 }},
    {{ type = "mmd", reference = "reference.npz", delta = 0.02, rows = 30 }},
    {{ type = "sybils", reference = "reference.npz", ratio = 0.9, share = 0.2, rate = 1e-3 }},
]
[[victims]]
name = "two"
folder = "deep"
engine = "torch"
max_rows = 64
defenses = [{{ type = "prada", delta = 0.95, reaction = "coarsen" }}]
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, network, cache):
    """A served victim's folder, with the log that it recorded, and the alarms that it raised."""
    path = tmp_path_factory.mktemp("recorded")
    config = configured(path, network, cache)
    config.write_text(WATCHED)
    rng = np.random.default_rng(0)
    deep = Network.new(FAMILIES["mlp"](hidden=(16,)), SHAPE, tuple("abc"), seed=0, device="cpu")
    x = rng.random((300, *SHAPE), np.float32)
    deep.fit(x, (x[:, 0, 0, 0] * 3).astype(np.int64), Training(epochs=12, lr=1e-2, checkpoints=11), seed=0)
    folder.save(deep, path / "deep")
    other = Network.new(FAMILIES["mlp"](hidden=(4,)), SHAPE, ("own", "other"), seed=3, device="cpu")
    folder.save(other, path / "filter")
    Pool(x, deep.predict(x).argmax(axis=1).astype(np.int64), tuple("abc")).save(path / "reference.npz")
    raised = []
    with local_server(config) as server:
        admin = server.headers("admin", "root")
        thief, guest, crowd = (server.headers("free", name) for name in ("thief", "guest", "crowd"))

        def ask(headers, rows, model="one", name=None):
            entry = {"name": "input", "datatype": "FP32", "shape": list(rows.shape), "data": rows.tolist()}
            body = {"inputs": [entry]} if name is None else {"inputs": [entry], "id": name}
            reply = server.client.post(f"/v2/models/{model}/infer", headers=headers, json=body)
            assert reply.status_code == 200, reply.text

        def note():
            for alarm in server.client.get("/admin/alarms", headers=admin).json():
                if alarm not in raised:
                    raised.append(alarm)

        steps = np.concatenate([x[:40], np.clip(x[:40] + np.float32(0.1), 0, 1), x[:40] * np.float32(0.9)])
        for i in range(0, 240, 20):
            ask(thief, np.roll(steps, -i, axis=0)[:20], "one" if i % 40 else "two", f"r{i}")
            ask(thief, np.roll(steps, -i, axis=0)[:20], "one" if i % 40 else "two", f"r{i}")  # tried again
            ask(guest, rng.random((15, *SHAPE), np.float32))
        note()
        for alarm in list(raised):
            where = "/".join(alarm[name] for name in ("account", "model", "detector"))
            harmless = {"harmless": alarm["account"] == "guest"}
            assert (
                server.client.delete(f"/admin/alarms/{where}", headers=admin, params=harmless).status_code == 200
            )
        server.clock.sleep(60)
        ask(guest, rng.random((15, *SHAPE), np.float32))  # after its alarm was dismissed
        with ThreadPoolExecutor(6) as together:
            list(together.map(lambda i: ask(crowd, steps[i : i + 3]), range(0, 117, 3)))
        for i in range(0, 240, 20):
            ask(thief, np.roll(steps, -i, axis=0)[:20] ** 2)
        note()
        server.app.service._access_log.close()
    return path, raised


def told(capsys, path, *flags):
    main(["detect", "--config", str(path / "range.toml"), "--log", str(path / "log" / "access.jsonl"), *flags])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_recorded_log_raises_the_alarms_that_were_raised_live_at_the_same_rows(recorded, capsys):
    path, raised = recorded
    found = told(capsys, path)
    kinds = {alarm["detector"] for alarm in raised}
    assert {"prada", "hoda", "mmd", "sybils", "ood"} >= kinds >= {"prada", "mmd", "sybils"}
    assert (
        sum(a["account"] == "thief" and a["detector"] == "prada" for a in raised) == 2
    )  # before and after a clear
    assert {a["account"] for a in raised} >= {"thief", "crowd"}
    members = ("account", "model", "detector", "row", "statistic", "reaction")

    def listed(alarms):
        return sorted([alarm[name] for name in members] for alarm in alarms)

    assert listed(found) == listed(raised)
    lines = (path / "log" / "access.jsonl").read_text().splitlines()
    for alarm in found:
        assert json.loads(lines[alarm["line"] - 1])["account"] == alarm["account"]


def test_the_log_calibrates_by_account_and_a_repeated_request_counts_once(recorded):
    path, _ = recorded
    read = Harmless.read([path / "log" / "access.jsonl"], Card("one", SHAPE, 3))
    sizes = {stream.kind: 0 for stream in read.streams}
    assert set(sizes) == {"access"}
    assert sorted(len(stream.rows) for stream in read.streams) == [117, 195, 20 * 6 + 240]
    assert len(Harmless.read([path / "log" / "access.jsonl"], Card("two", SHAPE, 3)).x) == 120
    with pytest.raises(BadInput, match="nobody asked the model 'three'"):
        Harmless.read([path / "log" / "access.jsonl"], Card("three", SHAPE, 3))


def test_rows_of_dismissed_alarms_up_to_then_are_harmless_traffic(recorded, capsys):
    path, raised = recorded
    assert "guest" in {alarm["account"] for alarm in raised}
    settings = read_settings(path / "range.toml", state=path / "state")
    dismissed = asyncio.run(_dismissed(settings, "one"))
    assert dismissed == {"guest": 1e9}
    assert asyncio.run(_dismissed(settings, "two")) == {}
    read = Harmless.read([path / "log" / "access.jsonl"], Card("one", SHAPE, 3), dismissed)
    assert [(stream.kind, len(stream.rows)) for stream in read.streams] == [("dismissed", 180)]
    log, rows = str(path / "log" / "access.jsonl"), str(path / "reference.npz")
    with pytest.raises(BadInput, match="one account of the kind 'dismissed'"):
        flags = ["--detector", "prada", "--rows", log, rows, "--dismissed"]
        main(["calibrate", "one", "--config", str(path / "range.toml"), *flags])


def written(path, lines, **arrays):
    (path / "theirs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    np.savez(path / "theirs.npz", **arrays)
    return ["detect", "--log", str(path / "theirs.jsonl")]


def test_another_s_log_of_embeddings_needs_no_victim(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(150, 5)), np.repeat(rng.normal(size=(30, 5)) + 3, 10, axis=0)])
    x = (x + rng.normal(size=x.shape) * 0.01).astype(np.float32)
    labels = rng.integers(0, 3, len(x))
    sizes = rng.permutation(np.repeat([1, 3, 5], 50))
    flags = written(tmp_path, [{"account": "a", "rows": int(n)} for n in sizes], x=x, labels=labels)
    main([*flags, "--detector", "prada", "--set", "delta=0.95"])
    (alarm,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = Prada(0.95).observe(Prada(0.95).begin(), x, labels).alarm
    assert (alarm["row"], alarm["statistic"]) == expected
    assert alarm["line"] == 1 + np.searchsorted(sizes.cumsum(), alarm["row"])
    Pool(x[:150]).save(tmp_path / "harmless.npz")
    mmd = ["--set", f"reference={tmp_path / 'harmless.npz'}", "--set", "delta=0.05", "--set", "by_class=false"]
    main([*flags, "--detector", "mmd", "--set", "rows=50", *mmd])
    (alarm,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert alarm["row"] > 150


def test_features_alone_are_enough(tmp_path, capsys):
    foreign = np.zeros(90, np.uint8)
    foreign[45:60] = 1
    lines = [{"account": "ab"[i % 2], "at": i} for i in range(90)]
    flags = written(tmp_path, lines, ood=foreign)
    main([*flags, "--detector", "ood", "--set", "delta=0.5", "--set", "rows=10", "--set", "folder=none"])
    a, b = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [a["account"], a["row"], a["line"], a["statistic"]] == ["a", 30, 59, 0.7]
    assert [b["account"], b["row"], b["line"], b["statistic"]] == ["b", 30, 60, 0.8]


@pytest.mark.parametrize(
    ("lines", "arrays", "flags", "fault"),
    [
        (["x"], {}, (), "line 1: expected a JSON object"),
        (
            [{"account": "a", "rows": 2, "labels": [1, 2]}, {"at": 3}],
            {"x": np.zeros((3, 4))},
            (),
            'line 2: has no member "account"',
        ),
        ([{"account": "a", "rows": 2, "labels": [1]}], {}, (), "line 1: .* a label for each"),
        ([{"account": "a", "file": "../theirs.npz"}], {}, (), "beside the log"),
        ([{"account": "a"}], {"y": [1]}, (), "has neither an array .prada. nor the rows"),
        ([{"account": "a"}] * 3, {"x": np.zeros((2, 4)), "labels": [0, 0]}, (), "line 3: its rows end at 3"),
        ([{"account": "a"}], {"x": np.zeros((2, 4))}, (), "no victim to ask"),
        (
            [{"account": "a"}],
            {"x": np.full((1, 4), np.nan), "labels": [0]},
            (),
            "finite features, from this line on",
        ),
        (
            [{"account": "a"}],
            {"x": np.zeros((1, 4)), "labels": [0]},
            ("hoda",),
            "checkpoints, but there is no victim",
        ),
    ],
)
def test_what_is_wrong_with_a_log_is_named(tmp_path, lines, arrays, flags, fault):
    command = written(tmp_path, lines, **arrays)
    kind = flags[0] if flags else "prada"
    fields = ["--set", "delta=0.5"] + ["--set", f"benign={BENIGN}"] * (kind == "hoda")
    with pytest.raises(BadInput, match=fault):
        main([*command, "--detector", kind, *fields])
    with pytest.raises(BadInput, match="--config"):
        main(command)
    with pytest.raises(BadInput, match="No such file"):
        main(["detect", "--log", str(tmp_path / "none"), "--detector", "prada"])


def test_a_log_that_cannot_be_written_is_named_at_start(config):
    config.write_text('access_log = "range.toml/log"\n' + config.read_text())
    with pytest.raises(BadInput, match=r"access_log .*range\.toml/log"), local_server(config):
        pass
