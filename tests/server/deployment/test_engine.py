import asyncio
import base64
import dataclasses
import io
import logging
import os
import platform
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from parts import command, local_server
from PIL import Image
from threadpoolctl import threadpool_info, threadpool_limits

from server.deployment.engine import PASS, drawn, engine_of, fault_of
from server.deployment.models import load_all
from server.deployment.values import check
from server.settings import Victim, read_settings
from wire import BadInput, Card, Feature, Malformed
from zoo import folder
from zoo.families import name_of
from zoo.families.cnn import Cnn
from zoo.families.logistic import Softmax
from zoo.families.mlp import Mlp
from zoo.families.resnet import Resnet
from zoo.network import Network

NAMES = tuple("abcde")
IMAGE = (1, 8, 8)
SMALL = [
    (Softmax(), IMAGE),
    (Softmax(), (7,)),
    (Mlp((16,)), IMAGE),
    (Mlp((10, 7)), (30,)),
    (Cnn(width=4, hidden=16), IMAGE),
    (Cnn(width=5, hidden=13), (3, 9, 11)),
    (Resnet(n=1, width=4), IMAGE),
]
of_every_family = pytest.mark.parametrize(
    ("family", "shape"), SMALL, ids=[f"{name_of(family)}-{len(shape)}d" for family, shape in SMALL]
)


def network_of(family, shape):
    network = Network.new(family, shape, NAMES, seed=0, device="cpu")
    *_, weight, _ = network.module.parameters()
    weight.data *= 5  # so that answers differ
    return network


def victim(**fields):
    return Victim(name="v", folder="somewhere", **fields)


def engine(network, path, **fields):
    card = Card("v", network.input_shape, network.classes, dtype=fields.get("dtype", "FP32"))
    if card.dtype == "UINT8":
        card = dataclasses.replace(card, high=255.0)
    return engine_of(network, victim(**fields), card, path, 1)


def answers(served, x):
    return served.predict([x])


def rows_of(shape, n=100, seed=1):
    return np.random.default_rng(seed).random((n, *shape), np.float32)


def neighbours_matter(predict, x):
    together = predict(x)
    return [n for n in range(1, len(x) - 3) if not np.array_equal(predict(x[3 : 3 + n]), together[3 : 3 + n])]


@of_every_family
def test_onnx_runtime_serves_every_network_on_a_cpu_and_answers_as_torch_does(cache, family, shape):
    network = network_of(family, shape)
    served = engine(network, cache)
    x = rows_of(shape)
    assert served.platform == "onnxruntime_float32"
    assert answers(served, x).dtype == np.float32
    np.testing.assert_allclose(answers(served, x), network.predict(x), atol=1e-5)
    assert np.ptp(network.predict(x), axis=0).max() > 0.01


@of_every_family
@pytest.mark.parametrize("fields", [{}, {"engine": "torch"}, {"precision": "bfloat16"}], ids=str)
def test_an_answer_does_not_depend_on_the_rows_beside_it(cache, family, shape, fields):
    served = engine(network_of(family, shape), cache, **fields)
    assert neighbours_matter(partial(answers, served), rows_of(shape)) == []


def test_an_engine_whose_answers_depend_on_the_rows_beside_them_may_not_serve():
    x = rows_of((3,), 64)

    def truth(rows):
        return rows / 3

    def sloppy(rows):
        return truth(rows) + np.float32(1e-7) * (len(rows) % 8 == 0)

    assert fault_of(truth, truth, x) is None
    assert fault_of(sloppy, truth, x) == "its answers about 1 rows change with the 63 rows beside them"


@pytest.mark.parametrize(
    ("off", "fault"), [(5e-6, None), (2e-5, "differ from torch's by 2.0e-05, more than 1e-05"), (np.nan, "by nan")]
)
def test_an_engine_that_is_off_by_more_than_the_tolerance_may_not_serve(off, fault):
    x = rows_of((3,), 64)
    found = fault_of(lambda rows: np.float64(rows) + off, np.float64, x)
    assert found is None if fault is None else fault in found


class Two(torch.nn.Module):
    """A module that computes something else, or nothing, when it is exported."""

    def __init__(self, module, exported):
        super().__init__()
        self.module, self.exported = module, exported

    def forward(self, x):
        return self.exported(self.module(x)) if torch.compiler.is_exporting() else self.module(x)


@pytest.mark.parametrize(
    ("exported", "fault"),
    [
        (lambda logits: logits * 1.01, "its answers differ from torch's by "),
        (lambda logits: logits if logits.sum() > 0 else -logits, "its export fails: "),
    ],
    ids=["other answers", "no export"],
)
def test_where_the_gate_stays_shut_torch_serves_and_the_log_says_so(tmp_path, caplog, exported, fault):
    network = network_of(Mlp((16,)), IMAGE)
    network.module = Two(network.module, exported)
    with caplog.at_level(logging.WARNING, logger="server"):
        served = engine(network, tmp_path)
    assert served.platform == "pytorch_float32"
    (record,) = (r for r in caplog.records if r.name == "server.deployment.engine")
    assert record.getMessage().startswith(f"v is served by torch, since {fault}")
    assert "\n" not in record.getMessage()
    x = rows_of(IMAGE)
    np.testing.assert_array_equal(answers(served, x), network.predict(x))
    with pytest.raises(BadInput, match="ONNX Runtime cannot serve it, since its"):
        engine(network, tmp_path, engine="onnxruntime")


def test_an_export_that_fails_without_a_word_leaves_torch_to_serve(tmp_path, monkeypatch):
    def silent(*_):
        raise MemoryError

    monkeypatch.setattr("server.deployment.engine._graph", silent)
    assert engine(network_of(Mlp((16,)), IMAGE), tmp_path).platform == "pytorch_float32"


def test_a_second_start_exports_nothing_and_other_weights_are_exported(tmp_path, monkeypatch):
    first = engine(network_of(Softmax(), IMAGE), tmp_path)
    monkeypatch.setattr(torch.onnx, "export", None)  # whoever calls it fails
    x = rows_of(IMAGE)
    again = engine(network_of(Softmax(), IMAGE), tmp_path)
    assert again.platform == "onnxruntime_float32"
    np.testing.assert_array_equal(answers(again, x), answers(first, x))
    other = network_of(Softmax(), IMAGE)
    next(other.module.parameters()).data += 1e-3
    assert engine(other, tmp_path).platform == "pytorch_float32"


def test_the_operator_chooses_engine_and_precision(cache):
    x, full = rows_of(IMAGE), engine(network_of(Cnn(4, 16), IMAGE), cache)
    torch_ = engine(network_of(Cnn(4, 16), IMAGE), cache, engine="torch")
    half = engine(network_of(Cnn(4, 16), IMAGE), cache, precision="bfloat16")
    assert [e.platform for e in (full, torch_, half)] == [
        *("onnxruntime_float32", "pytorch_float32", "pytorch_bfloat16")
    ]
    assert answers(half, x).dtype == np.float32
    difference = np.abs(answers(half, x) - answers(full, x)).max()
    assert 1e-5 < difference < 0.05
    with pytest.raises(ValueError, match="is torch's"):
        victim(engine="onnxruntime", precision="bfloat16")


@pytest.mark.parametrize("name", ["auto", "torch"])
def test_bytes_are_answered_as_the_floats_that_they_stand_for(cache, name):
    network = network_of(Cnn(4, 16), IMAGE)
    x = np.random.default_rng(0).integers(0, 256, (70, *IMAGE), np.uint8)
    as_bytes = engine(network, cache, engine=name, dtype="UINT8")
    as_floats = engine(network, cache, engine=name)
    assert as_bytes.platform == as_floats.platform
    np.testing.assert_array_equal(answers(as_bytes, x), answers(as_floats, x.astype(np.float32) / 255))


class Shares:
    """A model that is no network."""

    def network(self):
        raise BadInput("it is none")

    def predict(self, x):
        share = x.reshape(len(x), -1).mean(axis=1, keepdims=True).astype(np.float32)
        return np.concatenate([share, 1 - share], axis=1)


def test_any_classifier_is_served_without_an_export(tmp_path):
    card = Card("v", (4,), 2)
    served = engine_of(Shares(), victim(), card, tmp_path, 1)
    assert served.platform == "python_classifier" and list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(answers(served, rows_of((4,))), Shares().predict(rows_of((4,))))
    for fields in ({"engine": "torch"}, {"precision": "bfloat16"}):
        with pytest.raises(BadInput, match="are for networks"):
            engine_of(Shares(), victim(**fields), card, tmp_path, 1)


CARDS = {
    "images": Card("v", IMAGE, 2),
    "bytes": Card("v", IMAGE, 2, dtype="UINT8", low=0.0, high=255.0),
    "unbounded": Card("v", (30,), 2, low=None, high=None),
    "positive": Card("v", (30,), 2, low=0.0, high=None),
    "a table": Card(
        *("v", (2,), 2),
        low=None,
        high=None,
        missing=True,
        features=(Feature("age"), Feature("sex", ("female", "male"))),
    ),
    "texts": Card("v", (), 2, dtype="BYTES", low=None, high=None),
}


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_engines_are_tried_on_rows_that_the_card_lets_pass(card):
    rows = drawn(card, PASS)
    assert len(check(rows, card)) == PASS
    if card.dtype == "FP32":
        assert len(np.unique(rows[..., 0])) > 10
        assert np.isnan(rows).any() == card.missing


@pytest.fixture
def config(tmp_path, cache):
    """Two victims of one network, of which one takes bytes."""
    folder.save(network_of(Cnn(4, 16), IMAGE), tmp_path / "net")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "cache").symlink_to(cache)
    (tmp_path / "range.toml").write_text(
        'state = "state"\n[plans.free]\n[[victims]]\nname = "bytes"\nfolder = "net"\ndtype = "UINT8"\n'
        '[[victims]]\nname = "floats"\nfolder = "net"\n'
    )
    return tmp_path / "range.toml"


def test_victims_tell_what_serves_them_and_passes_are_told_by_victim(config):
    told = []
    served = load_all(read_settings(config), lambda *pass_: told.append(pass_))
    assert [s.platform for s in served.values()] == ["onnxruntime_float32"] * 2
    card = served["bytes"].card
    assert (card.dtype, card.low, card.high) == ("UINT8", 0.0, 255.0)
    asyncio.run(served["floats"].batcher(rows_of(IMAGE, 5)))
    ((name, rows, queue, forward),) = told
    assert (name, rows) == ("floats", 5) and queue >= 0 and forward > 0


def test_bytes_are_for_rows_from_0_to_1(config):
    network = network_of(Softmax(), (4,))
    unbounded = dataclasses.replace(network.card(), low=None, high=None)
    folder.save(Network(network.module, network.family, unbounded), config.parent / "net")
    with pytest.raises(BadInput, match=r'victim bytes: dtype = "UINT8" is for .* takes None to None'):
        load_all(read_settings(config))


def test_our_client_sends_bytes_and_keeps_to_rows_from_0_to_1(config):
    pixels = np.random.default_rng(0).integers(0, 256, (10, *IMAGE), np.uint8)
    x = pixels.astype(np.float32) / 255
    with local_server(config) as server:
        as_bytes, as_floats = (server.endpoint(model, plan="free") for model in ("bytes", "floats"))
        assert (as_bytes.card.dtype, as_bytes.card.low, as_bytes.card.high) == ("UINT8", 0, 1)
        headers = server.headers("free")
        metadata = server.client.get("/v2/models/bytes", headers=headers).json()
        assert metadata["platform"] == "onnxruntime_float32"
        want = as_floats(x)
        for rows in (x, pixels):
            np.testing.assert_array_equal(as_bytes(rows).probs, want.probs)
        png = io.BytesIO()
        Image.fromarray(pixels[0, 0]).save(png, "PNG")
        body = {"instances": [{"b64": base64.b64encode(png.getvalue()).decode()}]}
        reply = server.client.post("/v1/models/bytes:predict", json=body, headers=headers)
        told = np.float32(reply.json()["predictions"][0]["probabilities"])
        np.testing.assert_array_equal(told, want.probs[0])
        x[3, 0, 0, 0] = 0.5
        with pytest.raises(Malformed, match=r"row 3 holds 0.5, .* expected multiples of 1/255"):
            as_bytes(x)


KEPT = """
import gc, resource, sys

def passes(n):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        [bytearray(8 * 2**20) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

from server.deployment.tuning import settle
settle()
passes(2)
assert passes(3) < 10, "memory was given back"
assert gc.get_freeze_count() > 10_000 and gc.get_threshold()[0] > 10_000
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries of C have no such switches")
def test_what_serves_computes_with_as_many_threads_as_the_settings_say(config):
    torch.set_num_threads(2)
    settings = read_settings(config)
    with threadpool_limits(2):
        load_all(settings)
        assert {torch.get_num_threads(), *(pool["num_threads"] for pool in threadpool_info())} == {
            settings.threads
        }


def test_a_process_that_serves_keeps_its_memory_and_seldom_collects(tmp_path):
    (tmp_path / "kept.py").write_text(KEPT)
    done = command("kept", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_onnx_runtime_tells_nobody_that_it_runs(tmp_path):
    home = {"HOME": str(tmp_path), "XDG_CACHE_HOME": ""}
    inherited = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", "import server.deployment.engine"], env=inherited | home, check=True)
    assert not list(tmp_path.rglob("*onnxruntime*"))  # where it keeps what it would tell
