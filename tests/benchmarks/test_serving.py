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
from tritonclient.grpc import service_pb2

from benchmarks import __main__
from benchmarks.__main__ import main
from benchmarks.measure import spread
from benchmarks.serving import environments, rounds, v2_grpc, watching
from benchmarks.serving.cases import OURS, PARTS, Case, Part
from benchmarks.serving.encodings import BINARY, ENCODINGS, V2
from benchmarks.serving.engine import load
from benchmarks.serving.plot import plot
from benchmarks.serving.rounds import Bench
from benchmarks.serving.servers import Missing, Ours, Running
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
    (target,) = [target for targets in TARGETS.values() for target in targets if target.what == what]
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


@pytest.mark.parametrize(("ratio", "reached"), [(87, False), (88, True)])
def test_the_served_part_of_raw_forward_is_that_of_the_fastest(ratio, reached):
    made = figures(ours_sqlite_binary_64x4=[ratio], raw_cnn_onnxruntime_8=[60], raw_cnn_onnxruntime_32=[100])
    row = judged(made, "keys, 64x4: part of the raw forward pass")
    assert row["ratio"]["median"] == ratio / 100 and row["reached"] is reached
    assert row["against"] == "raw cnn onnxruntime 32"


def test_rivals_are_met_at_their_best():
    made = figures(
        ours_sqlite_binary_1x32=[900],
        litserve_batched_base64_1x32=[90],
        litserve_unbatched_base64_1x32=[150],
        litserve_unbatched_base64_64x4=[9000],
    )
    row = judged(made, "keys, 1x32: times LitServe's best")
    assert (row["ratio"]["median"], row["reached"]) == (6, False)
    assert row["against"] == "litserve unbatched base64 1x32"


def test_latencies_are_to_be_small():
    made = Figures()
    made.add("ours sqlite binary 1x1", Figure(1000, 10, p50=0.2, p99=1))
    made.add("litserve unbatched JSON 1x1", Figure(500, 10, p50=2.0, p99=3))
    made.add("litserve unbatched base64 1x1", Figure(500, 10, p50=1.25, p99=3))
    row = judged(made, "keys, 1x1: median latency, part of unbatched LitServe's")
    assert row["ratio"]["median"] == pytest.approx(0.16) and row["reached"] is True
    made.add("ours sqlite cnn-defended binary 1x32", Figure(1000, 10, p50=1.0, p99=3.1))
    assert judged(made, "all defences, 1x32: 99th percentile over median")["reached"] is False


def test_errors_and_gaps_reach_no_target():
    made = figures(ours_sqlite_binary_64x4=[90])
    row = judged(made, "keys, 64x4: part of the raw forward pass")
    assert row["reached"] is None and "raw cnn onnxruntime" in row["against"]
    made = figures(raw_cnn_onnxruntime_32=[100])
    made.add("ours sqlite binary 64x4", Figure(1e9, 0.1, errors=3))
    row = judged(made, "keys, 64x4: part of the raw forward pass")
    assert row["reached"] is None and row["against"] == "ours sqlite binary 64x4 had 3 errors"


def test_every_target_s_parts_are_measured_by_some_case():
    assert set(TARGETS) <= set(PARTS)
    for name, part in PARTS.items():
        made = Figures()
        for measurement in (*part.cases, *part.forwards):
            made.add(measurement.name, Figure(100.0, 10.0, p50=1.0, p99=2.0))
        made.memory = dict.fromkeys({case.server.name for case in part.cases}, 100)
        rows = [target.judged(made) for target in TARGETS.get(name, ())]
        assert [row["against"] for row in rows if row["ratio"] is None] == []
        # All were equally fast, so exactly what asks for more than equality is missed.
        for row in rows:
            assert row["reached"] == (row["bound"] != 0.2 and (row["bound"] <= 1 or not row["least"])), row


def test_the_command_knows_the_parts():
    assert tuple(PARTS) == __main__.PARTS


def test_names_are_distinct():
    for part in PARTS.values():
        names = [measurement.name for measurement in (*part.cases, *part.forwards)]
        assert len(set(names)) == len(names)


def test_connections_are_spread_over_victims():
    case = Case(OURS, "cnn", "binary", 1, 4, victims=2)
    assert [case.model_of(number) for number in range(4)] == ["cnn", "cnn-2", "cnn", "cnn-2"]
    assert case.name == f"{OURS.name} binary 1x4 over 2 victims"
    assert Case(OURS, "cnn", "binary", 1, 4, 500).name == f"{OURS.name} binary 1x4 at 500/s"


STARTS, ALIVE, BESIDE = Counter(), set(), set()


@dataclass(frozen=True)
class Tiny:
    """A server in a thread of this process, which answers in lists, in one way or another."""

    name: str = "tiny"
    way: str = "right"
    restless: bool = False
    encodings = ENCODINGS["fastapi"]

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
        return Running((os.getpid(),), {"http": port})


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


def measured(monkeypatch, kept, *servers):
    part = Part("tiny servers", tuple(Case(server, "cnn", "JSON", 2, 2) for server in servers))
    monkeypatch.setattr(rounds, "PARTS", {"headline": part})
    return Bench(kept, rounds=2, seconds=0.2).run()


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
    part = results["parts"]["headline"]
    good, refusing = (part["figures"][f"{name} JSON 2x2"] for name in ("tiny good", "tiny refusing"))
    measurable = ("tiny good", "tiny refusing", "tiny restless")
    assert set(part["figures"]) == {f"{name} JSON 2x2" for name in measurable}
    for figure in part["figures"].values():
        assert all(len(entry["rounds"]) == 2 for entry in figure.values())
    assert good["errors"]["rounds"] == [0, 0] and 0 < good["client"]["median"] < 2
    assert 0 < good["speed"]["low"] <= good["speed"]["median"] <= good["speed"]["high"]
    assert 0 < good["p50"]["median"] <= good["p99"]["median"] and good["cpu"]["median"] > 0
    assert refusing["errors"]["high"] > 0
    # One that takes CPU while nobody asks runs only while it is measured.
    assert (STARTS["tiny good"], STARTS["tiny restless"]) == (1, 2)
    assert not BESIDE
    assert "2 of 2 labels are not the model's" in part["skipped"]["tiny wrong JSON 2x2"]
    assert "probabilities are off" in part["skipped"]["tiny off JSON 2x2"]
    assert part["skipped"]["tiny absent"] == "tiny is not installed"
    assert part["parameters"] == {"cnn": 206_970} and results["machine"]["steal"] >= 0
    assert "tiny good" in part["memory"] and json.loads(json.dumps(results)) is not None
    text = table(results)
    assert "skipped: tiny absent: tiny is not installed" in text and "not measured: " in text


def test_a_rival_that_is_not_installed_is_named_and_the_rest_goes_on(kept, tmp_path, capsys):
    only = ["--only", "fastapi", "raw cnn onnxruntime 32"]
    where = ["--cache", str(kept), "--json", str(tmp_path / "serving.json")]
    main(["serving", "--part", "rivals", "engines", "--rounds", "2", "--seconds", "0.1", *only, *where])
    results = json.loads((tmp_path / "serving.json").read_text())
    rivals, engines = results["parts"]["rivals"], results["parts"]["engines"]
    assert rivals["skipped"] == {
        "fastapi": "fastapi is not installed; python -m benchmarks serving --install installs it"
    }
    assert rivals["figures"] == {} and set(engines["figures"]) == {"raw cnn onnxruntime 32"}
    assert len(engines["figures"]["raw cnn onnxruntime 32"]["speed"]["rounds"]) == 2
    assert "skipped: fastapi" in capsys.readouterr().out


def test_our_server_is_measured_as_a_user_starts_it(kept):
    only = [f"{OURS.name} binary 64x4", f"{OURS.name} cnn-defended binary 1x32"]
    results = Bench(kept, rounds=1, seconds=0.3, parts=["headline"], only=only).run()
    part = results["parts"]["headline"]
    assert part["skipped"] == {}
    assert {name: figure["errors"]["rounds"] for name, figure in part["figures"].items()} == {
        name: [0] for name in only
    }


def test_victims_and_histories_are_measured(monkeypatch, kept):
    monkeypatch.setattr(watching, "BEFORE", (0, 1500))
    case = Case(Ours(victims=2), "cnn", "binary", 1, 2, victims=2)
    monkeypatch.setattr(rounds, "PARTS", {"history": Part("tiny", (case,), watching=True)})
    part = Bench(kept, rounds=1, seconds=0.3).run()["parts"]["history"]
    assert part["skipped"] == {}
    watched = "ours sqlite watched"
    assert list(part["figures"]) == [
        case.name,
        f"{watched} binary 64x1",
        f"{watched} cnn-prada binary 64x1 after 0 rows",
        f"{watched} cnn-prada binary 64x1 after 1500 rows",
    ]


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
    request = BINARY.request("cnn", x, {"Authorization": "Bearer k"})
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v2/models/cnn/infer HTTP/1.1" and "Authorization: Bearer k" in lines
    assert f"Content-Length: {len(body)}" in lines and body.endswith(x.tobytes())
    labels = np.array([1, 0])
    said, length = pack("outputs", [Tensor("labels", labels), Tensor("probabilities", x.reshape(2, 4))], {})
    told = BINARY.read(said, {HEADER_LENGTH: str(length)})
    np.testing.assert_array_equal(told.labels, labels)
    np.testing.assert_array_equal(told.probs, x.reshape(2, 4))


def test_a_message_over_grpc_says_what_it_holds():
    x = np.arange(8, dtype=np.float32).reshape(2, 1, 2, 2)
    message = service_pb2.ModelInferRequest.FromString(V2["gRPC"].request("cnn", x, {}))
    (given,) = message.inputs
    assert (message.model_name, given.datatype, list(given.shape)) == ("cnn", "FP32", [2, 1, 2, 2])
    assert message.raw_input_contents[0] == x.tobytes()
    output = service_pb2.ModelInferResponse.InferOutputTensor(name="probabilities", datatype="FP32", shape=[2, 4])
    said = service_pb2.ModelInferResponse(outputs=[output], raw_output_contents=[x.tobytes()])
    np.testing.assert_array_equal(v2_grpc.unpack(said.SerializeToString())["probabilities"], x.reshape(2, 4))


def test_octets_are_labels_and_then_probabilities():
    probs = np.random.default_rng(0).random((3, 10), np.float32)
    told = ENCODINGS["mosec"]["octets"].read(probs.argmax(1).tobytes() + probs.tobytes(), {})
    np.testing.assert_array_equal(told.labels, probs.argmax(1))
    np.testing.assert_array_equal(told.probs, probs)


def test_courses_are_drawn_from_the_names_of_figures(tmp_path):
    def measured(part):
        made = Figures()
        for number, case in enumerate(PARTS[part].cases):
            made.add(case.name, Figure(100.0 + number, 10.0, p50=1.0, p99=2.0))
        return made.results()

    parts = {name: measured(name) for name in ("open-loop", "connections", "victims")}
    results = {
        "machine": {"cpu": "a processor", "cores": 2},
        "settings": {"rounds": 1, "seconds": 1},
        "parts": parts,
    }
    plot(results, tmp_path / "courses.svg")
    drawn = (tmp_path / "courses.svg").read_text()
    for text in ("open-loop", "connections, one row each", f"{OURS.name} cnn-defended binary"):
        assert f"<!-- {text} -->" in drawn
    with pytest.raises(BadInput, match="--plot: expected one of the parts open-loop"):
        plot({**results, "parts": {}}, tmp_path / "none.svg")
