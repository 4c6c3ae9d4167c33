"""The comparison of servers: its arithmetic, what it skips, and what it lets nobody get away with."""

import asyncio
import contextlib
import json
import os
import threading
from collections import Counter
from dataclasses import dataclass

import numpy as np
import orjson
import pytest

from benchmarks.__main__ import main
from benchmarks.measure import spread
from benchmarks.serving import environments, rounds
from benchmarks.serving.cases import CASES, OURS, RAW, Case, raw
from benchmarks.serving.encodings import LISTS, V2
from benchmarks.serving.engine import load
from benchmarks.serving.rounds import Bench
from benchmarks.serving.servers import Missing, Running
from benchmarks.serving.table import table
from benchmarks.serving.targets import TARGETS, Figure, Figures, Target
from experiments.processes import free_port
from wire import BadInput
from wire.tensors import HEADER_LENGTH, Tensor, pack


def figures(**speeds):
    made = Figures()
    for name, values in speeds.items():
        for value in values:
            made.add(name.replace("_", " "), Figure(value, 1e6 / value, p50=1.0, p99=2.0))
    return made


def judged(made, what):
    (target,) = [target for target in TARGETS if target.what == what]
    return target.judged(made)


def test_rounds_are_summed_up_by_median_least_and_most():
    assert spread([3.0, 9.0, 1.0]) == (3.0, 1.0, 9.0)
    assert spread([1.0, 2.0]) == (1.5, 1.0, 2.0)


def test_ratios_are_taken_within_a_round():
    # A machine that is ten times as slow in the second round changes no ratio.
    target = Target(
        "a over b",
        2.0,
        True,
        lambda f: ([a.speed / b.speed for a, b in zip(f.of("a"), f.of("b"), strict=True)], "b"),
    )
    row = target.judged(figures(a=[200, 20, 230], b=[100, 10, 100]))
    assert row["ratio"] == {"median": 2.0, "low": 2.0, "high": 2.3} and row["reached"] is True


@pytest.mark.parametrize(("ratio", "reached"), [(79, False), (80, True)])
def test_the_served_part_of_raw_forward_is_that_of_the_fastest(ratio, reached):
    made = figures(ours_sqlite_binary_64x4=[ratio], raw_cnn_onnxruntime_8=[60], raw_cnn_onnxruntime_32=[100])
    row = judged(made, "64-row binary c4, keys only, onnxruntime: part of raw forward")
    assert row["ratio"]["median"] == ratio / 100 and row["reached"] is reached
    assert row["against"] == "raw cnn onnxruntime 32"


def test_rivals_are_met_at_their_best():
    made = figures(
        ours_sqlite_binary_1x32=[900],
        litserve_batched_torch_base64_1x32=[90],
        litserve_unbatched_onnxruntime_base64_1x32=[120],
        litserve_unbatched_onnxruntime_base64_64x4=[9000],
    )
    row = judged(made, "1-row binary c32: times LitServe's best")
    assert (row["ratio"]["median"], row["reached"]) == (7.5, False)
    assert row["against"] == "litserve unbatched onnxruntime base64 1x32"


def test_latencies_are_to_be_small():
    made = Figures()
    made.add("ours sqlite binary 1x1", Figure(1000, 10, p50=0.2, p99=1))
    made.add("litserve unbatched torch JSON 1x1", Figure(500, 10, p50=2.0, p99=3))
    made.add("litserve unbatched onnxruntime base64 1x1", Figure(500, 10, p50=1.25, p99=3))
    row = judged(made, "c1 median latency: part of unbatched LitServe's")
    assert row["ratio"]["median"] == pytest.approx(0.16) and row["reached"] is True
    made.add("ours sqlite cnn-defended binary 1x32", Figure(1000, 10, p50=1.0, p99=4.1))
    assert judged(made, "1-row binary c32, all defences: p99 over median")["reached"] is False


def test_errors_and_gaps_reach_no_target():
    made = figures(ours_sqlite_binary_64x4=[90])
    row = judged(made, "64-row binary c4, keys only, onnxruntime: part of raw forward")
    assert row["reached"] is None and "raw cnn onnxruntime" in row["against"]
    made = figures(raw_cnn_onnxruntime_32=[100])
    made.add("ours sqlite binary 64x4", Figure(1e9, 0.1, errors=3))
    row = judged(made, "64-row binary c4, keys only, onnxruntime: part of raw forward")
    assert row["reached"] is None and row["against"] == "ours sqlite binary 64x4 had 3 errors"


def test_every_target_s_parts_are_measured_by_some_case():
    made = Figures()
    for name in [*(case.name for case in CASES), *(raw(*forward) for forward in RAW)]:
        made.add(name, Figure(100.0, 10.0, p50=1.0, p99=2.0))
    made.memory = dict.fromkeys({case.server.name for case in CASES}, 100)
    rows = [target.judged(made) for target in TARGETS]
    assert [row["against"] for row in rows if row["ratio"] is None] == []
    # All were equally fast, so exactly what asks for more than equality is missed.
    assert all(row["reached"] == (row["bound"] <= 1 or not row["least"]) for row in rows if row["bound"] != 0.2)


def test_names_are_distinct():
    names = [*(case.name for case in CASES), *(raw(*forward) for forward in RAW)]
    assert len(set(names)) == len(names)


STARTS, ALIVE, BESIDE = Counter(), set(), set()


@dataclass(frozen=True)
class Tiny:
    """A server in a thread of this process, which answers in lists, in one way or another."""

    name: str = "tiny"
    way: str = "right"
    restless: bool = False
    encodings = LISTS

    def start(self, place, ending):
        if self.way == "absent":
            raise Missing("tiny is not installed")
        predict, port, loop = load(place.work / "cnn", "cnn", "onnxruntime"), free_port(), asyncio.new_event_loop()

        async def handle(reader, writer):
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                asked = 0
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                    rows = np.array(orjson.loads(await reader.readexactly(length))["instances"], np.float32)
                    probs = predict(rows)
                    labels = probs.argmax(axis=1)
                    asked += 1
                    status = 429 if self.way == "refusing" and asked > 1 else 200  # a check asks once
                    body = {
                        "labels": labels + (self.way == "wrong"),
                        "probabilities": probs * (1 + (self.way == "off")),
                    }
                    said = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
                    writer.write(b"HTTP/1.1 %d Said\r\nContent-Length: %d\r\n\r\n%s" % (status, len(said), said))
            writer.close()

        server = loop.run_until_complete(asyncio.start_server(handle, "127.0.0.1", port))
        thread = threading.Thread(target=loop.run_forever)
        thread.start()

        STARTS[self.name] += 1
        BESIDE.update(ALIVE)  # restless servers that run while another is started
        if self.restless:
            ALIVE.add(self.name)

        def end():
            ALIVE.discard(self.name)
            loop.call_soon_threadsafe(server.close)
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0.2), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

        ending.callback(end)
        return Running((os.getpid(),), port)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


def measured(monkeypatch, kept, *servers):
    monkeypatch.setattr(rounds, "CASES", [Case(server, "cnn", "JSON", 2, 2) for server in servers])
    return Bench(kept, rounds=2, seconds=0.2, only=[server.name for server in servers]).run()


def test_only_right_answers_are_measured(monkeypatch, kept):
    results = measured(
        monkeypatch,
        kept,
        Tiny("tiny good"),
        Tiny("tiny wrong", "wrong"),
        Tiny("tiny off", "off"),
        Tiny("tiny absent", "absent"),
        Tiny("tiny restless", restless=True),
        Tiny("tiny refusing", "refusing"),
    )
    good, refusing = (results["figures"][f"{name} JSON 2x2"] for name in ("tiny good", "tiny refusing"))
    measurable = ("tiny good", "tiny refusing", "tiny restless")
    assert set(results["figures"]) == {f"{name} JSON 2x2" for name in measurable}
    assert {figure["rounds"] for figure in results["figures"].values()} == {2} and good["errors"] == 0
    assert 0 < good["speed"]["low"] <= good["speed"]["median"] <= good["speed"]["high"]
    assert 0 < good["p50"]["median"] <= good["p99"]["median"] and good["cpu"]["median"] > 0
    assert refusing["errors"] > 0
    # One that takes CPU while nobody asks runs only while it is measured.
    assert (STARTS["tiny good"], STARTS["tiny restless"]) == (1, 2)
    assert not BESIDE
    assert "2 of 2 labels are not the model's" in results["skipped"]["tiny wrong JSON 2x2"]
    assert "probabilities are off" in results["skipped"]["tiny off JSON 2x2"]
    assert results["skipped"]["tiny absent"] == "tiny is not installed"
    assert results["settings"]["parameters"] == {"cnn": 206_970}
    assert "tiny good" in results["memory"] and json.loads(json.dumps(results)) is not None
    text = table(results)
    assert "skipped: tiny absent: tiny is not installed" in text and "not measured: " in text


def test_a_rival_that_is_not_installed_is_named_and_the_rest_goes_on(kept, tmp_path, capsys):
    only = ["--only", "fastapi", "raw cnn onnxruntime 8"]
    where = ["--cache", str(kept), "--json", str(tmp_path / "serving.json")]
    main(["serving", "--rounds", "2", "--seconds", "0.1", *only, *where])
    results = json.loads((tmp_path / "serving.json").read_text())
    assert results["skipped"] == {
        "fastapi torch": "fastapi is not installed; python -m benchmarks serving --install installs it"
    }
    assert set(results["figures"]) == {"raw cnn onnxruntime 8"}
    assert results["figures"]["raw cnn onnxruntime 8"]["rounds"] == 2
    assert "skipped: fastapi torch" in capsys.readouterr().out


def test_our_server_is_measured_as_a_user_starts_it(kept):
    results = Bench(
        kept, rounds=1, seconds=0.3, only=[f"{OURS.name} binary 1x1", f"{OURS.name} cnn-defended"]
    ).run()
    assert results["skipped"] == {}
    assert {name: figure["errors"] for name, figure in results["figures"].items()} == {
        f"{OURS.name} {rest}": 0 for rest in ("binary 1x1", "cnn-defended binary 64x4", "cnn-defended binary 1x32")
    }


def test_nonsense_is_refused_in_a_line(tmp_path):
    with pytest.raises(BadInput, match="no measurement's name contains zeppelin"):
        Bench(tmp_path, only=["zeppelin"]).run()
    with pytest.raises(BadInput, match=r"--seconds 0: expected 0\.1 to 600"):
        main(["serving", "--seconds", "0"])


def test_an_environment_counts_only_when_it_holds_what_is_wanted(tmp_path):
    assert environments.python("litserve", tmp_path) is None
    home = tmp_path / "rivals" / "litserve"
    home.mkdir(parents=True)
    done = home / "installed.txt"
    done.write_text("litserve==0.1")
    assert environments.python("litserve", tmp_path) is None
    done.write_text(environments._wanted("litserve"))
    assert environments.python("litserve", tmp_path) == home / "bin" / "python"


def test_a_request_says_what_it_holds():
    x = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    request = V2["binary"].request("cnn", x, {"Authorization": "Bearer k"})
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v2/models/cnn/infer HTTP/1.1" and "Authorization: Bearer k" in lines
    assert f"Content-Length: {len(body)}" in lines and body.endswith(x.tobytes())
    labels = np.array([1, 0])
    said, length = pack("outputs", [Tensor("labels", labels), Tensor("probabilities", x.reshape(2, 4))], {})
    told = V2["binary"].read(said, {HEADER_LENGTH: str(length)})
    np.testing.assert_array_equal(told.labels, labels)
    np.testing.assert_array_equal(told.probs, x.reshape(2, 4))
