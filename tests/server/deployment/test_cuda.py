"""What runs passes on a GPU: its sizes, buffers and lanes on the CPU, and all of it where there is a GPU."""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from parts import local_server

from server.deployment import cuda
from server.deployment.cuda import SIZES, Lane, Lanes, arithmetic, climb, doubts
from server.deployment.engine import engine_of
from server.settings import Victim
from wire import BadInput, Card
from zoo import folder
from zoo.families.cnn import Cnn
from zoo.families.mlp import Mlp
from zoo.families.resnet import Resnet
from zoo.network import Abreast, Network

IMAGE = (1, 8, 8)
SMALL = (8, 16, 64)
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")]


def network_of(family=None, shape=IMAGE, device="cpu"):
    return Network.new(family or Cnn(4, 16), shape, tuple("abcde"), seed=0, device=device)


def rows_of(n, shape=IMAGE, seed=1):
    return np.random.default_rng(seed).random((n, *shape), np.float32)


class Echo(torch.nn.Module):
    """Logits from which a row's first value, and the sum over its pass, can be read; see :func:`echoed`."""

    def forward(self, rows):
        flat = rows.flatten(1)
        return torch.stack([flat[:, 0], flat.sum().expand(len(flat)), torch.zeros_like(flat[:, 0])], 1)


def echoed(probs):
    logs = np.log(probs)
    return logs[:, 0] - logs[:, 2], logs[:, 1] - logs[:, 2]


def lanes_of(module, shape=(2,), sizes=(1, 4, 8)):
    network = network_of(Mlp((4,)), shape)
    network.module = module
    return Lanes(network, np.zeros((3, *shape), np.float32), name="v", sizes=sizes)


def test_the_parts_of_a_pass_are_answered_in_their_order():
    network, x = network_of(), rows_of(40)
    lanes = Lanes(network, rows_of(8, seed=2), name="v", sizes=SMALL)
    assert lanes.rows == 64
    for parts in ([x], [x[:1], x[1:30], x[30:]], [x[:3]]):
        np.testing.assert_array_equal(lanes(parts), network.predict(np.concatenate(parts)))


def test_a_pass_takes_the_smallest_size_that_holds_it():
    taken = []
    rows = torch.zeros(8, 2)
    lane = Lane(lambda rows: taken.append(len(rows)) or rows, rows, (1, 4, 8))
    for n in (1, 2, 4, 5, 8):
        lane([np.ones((n, 2), np.float32)])
    assert taken[3:] == [1, 4, 4, 8, 8]  # the first three warm up


def test_what_pads_a_pass_is_zero_whatever_the_pass_before_it_held():
    lanes = lanes_of(Echo())
    for _ in range(cuda.LANES):
        lanes([np.full((8, 2), 0.5, np.float32)])
    for _ in range(cuda.LANES):
        first, total = echoed(lanes([np.full((5, 2), 0.25, np.float32)]))
        np.testing.assert_allclose(first, 0.25, atol=1e-5)
        np.testing.assert_allclose(total, 2.5, atol=1e-5)


def test_an_answer_is_not_overwritten_by_the_passes_after_it():
    lanes = lanes_of(Echo())
    kept = lanes([np.full((3, 2), 0.5, np.float32)])
    for _ in range(2 * cuda.LANES):
        lanes([np.zeros((8, 2), np.float32)])
    np.testing.assert_allclose(echoed(kept)[0], 0.5, atol=1e-5)


class Meeting(torch.nn.Module):
    """Passes wait here until two are in flight; counts how many there are at most."""

    def __init__(self):
        super().__init__()
        self.met, self.now, self.most, self.lock = None, 0, 0, threading.Lock()

    def forward(self, rows):
        if self.met is not None:
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            self.met.wait(60)
            with self.lock:
                self.now -= 1
        return Echo()(rows)


def test_two_passes_are_in_flight_and_a_third_waits(monkeypatch):
    monkeypatch.setattr(cuda, "_one_arithmetic", threading.Semaphore(9))  # these passes wait for one another
    module = Meeting()
    lanes = lanes_of(module)
    module.met = threading.Barrier(2)
    with ThreadPoolExecutor(6) as pool:
        asked = [np.full((1 + number, 2), number / 8, np.float32) for number in range(6)]
        for x, probs in zip(asked, pool.map(lambda x: lanes([x]), asked), strict=True):
            assert len(probs) == len(x)
            np.testing.assert_allclose(echoed(probs)[0], x[:, 0], atol=1e-5)
    assert module.most == 2


class Hungry(torch.nn.Module):
    """Runs out of memory for rows above 0.5; how, the tests say."""

    def __init__(self, eat):
        super().__init__()
        self.eat = eat

    def forward(self, rows):
        if rows.max() > 0.5:
            self.eat(rows)
        return Echo()(rows)


def test_a_pass_without_memory_fails_alone():
    def eat(rows):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    lanes = lanes_of(Hungry(eat))
    for _ in range(2 * cuda.LANES):  # no lane is lost
        with pytest.raises(MemoryError, match=r"^CUDA out of memory$"):
            lanes([np.ones((2, 2), np.float32)])
        np.testing.assert_allclose(echoed(lanes([np.full((2, 2), 0.25, np.float32)]))[0], 0.25, atol=1e-5)


@pytest.mark.parametrize(
    ("seconds", "memory", "sizes"),
    [
        (lambda n: 1.0, lambda n: n, SIZES),
        (lambda n: 1 + n / 100, lambda n: n, SIZES),
        (lambda n: n, lambda n: n, (1,)),
        (lambda n: max(n, 32), lambda n: n, (1, 8, 32)),
        (lambda n: 5.0 if n == 64 else 1.0, lambda n: n, SIZES),
        (lambda n: 1.0, lambda n: 10 * n, (1, 8, 32, 64)),
    ],
    ids=[
        "constant",
        "hardly longer",
        "nothing gained",
        "nothing gained beyond 32",
        "nothing gained at 64",
        "memory",
    ],
)
def test_passes_grow_while_that_pays_and_fits(seconds, memory, sizes):
    assert climb(lambda size: (seconds(size), memory(size)), 1100) == sizes


def test_passes_stop_growing_where_memory_ends():
    def trial(size):
        if size > 128:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 1.0, 0

    assert climb(trial, 1) == (1, 8, 32, 64, 128)


def test_what_an_answer_depends_on_is_said():
    rows = rows_of(4, (2,))

    def exact(parts, size):
        return np.concatenate(parts)

    def by_size(parts, size):
        return np.concatenate(parts) + np.float32(0.25) * (size == 8)

    def by_neighbours(parts, size):
        return np.concatenate(parts) * (1 + (sum(map(len, parts)) > 8))

    def by_place(parts, size):
        return np.concatenate(parts) + np.arange(sum(map(len, parts)), dtype=np.float32)[:, None]

    runs = iter(range(99))

    def by_run(parts, size):
        return np.concatenate(parts) + np.float32(next(runs))

    assert list(doubts(exact, (1, 8, 32), rows)) == []
    assert list(doubts(by_place, (1, 8, 32), rows)) == [
        "in a pass of 8, 32 rows, a row's probabilities change with its place among them"
    ]
    assert next(doubts(by_run, (1, 8), rows)) == (
        "in a pass of 1, 8 rows, a row's probabilities change from run to run"
    )
    assert list(doubts(by_size, (1, 8, 32), rows)) == [
        "a row's probabilities in a pass of 8 rows differ by up to 2e-01 from those in 32; "
        "pass_rows makes all passes one size"
    ]
    assert list(doubts(by_neighbours, (1, 8, 32), rows)) == [
        "in a pass of 32 rows, a row's probabilities change with the rows beside it"
    ]


def test_arithmetic_is_exact_again_afterwards_even_if_a_pass_fails():
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = torch.backends.cuda.matmul.allow_tf32
    with pytest.raises(ValueError), arithmetic(tf32=True):
        assert [switch.allow_tf32 for switch in switches] == [True, True]
        raise ValueError
    assert [switch.allow_tf32 for switch in switches] == [False, False] == [before, before]


def test_tf32_is_refused_on_a_cpu(tmp_path):
    victim = Victim(name="v", folder="somewhere", precision="tf32")
    with pytest.raises(BadInput, match=r'precision = "tf32" needs a GPU; expected "float32" or "bfloat16"'):
        engine_of(network_of(), victim, Card("v", IMAGE, 5), tmp_path, 1)
    with pytest.raises(ValueError, match="is torch's"):
        Victim(name="v", folder="somewhere", precision="tf32", engine="onnxruntime")


def on_gpu(network, precision="float32", **fields):
    victim = Victim(name="v", folder="somewhere", precision=precision, **fields)
    dtype = fields.get("dtype", "FP32")
    card = Card("v", network.input_shape, network.classes, dtype=dtype, high=255.0 if dtype == "UINT8" else 1.0)
    return engine_of(network, victim, card, None, 1)


def captured(engine):
    """Returns the sizes that both lanes have graphs of."""
    lanes = [engine.predict._free.get() for _ in range(cuda.LANES)]
    for lane in lanes:
        engine.predict._free.put(lane)
    (sizes,) = {tuple(sorted(lane._graphs)) for lane in lanes}
    return sizes


FAMILIES = [(Mlp((16,)), IMAGE), (Cnn(), (1, 28, 28)), (Resnet(n=1), (3, 32, 32))]
of_each = pytest.mark.parametrize(("family", "shape"), FAMILIES, ids=["mlp", "cnn", "resnet"])


class TestOnGpu:
    pytestmark = gpu

    @of_each
    def test_answers_are_those_of_a_cpu(self, family, shape):
        served, x = on_gpu(network_of(family, shape, "cuda")), rows_of(300, shape)
        assert served.beside and served.platform == "pytorch_float32"
        assert captured(served)[-1] == served.rows
        truth = network_of(family, shape).predict(x)
        for n in (1, 2, 9, 33, min(300, served.rows)):
            np.testing.assert_allclose(served.predict([x[: n // 2], x[n // 2 : n]]), truth[:n], atol=1e-5)

    @of_each
    def test_with_one_size_a_row_is_answered_alike_whatever_is_beside_it(self, family, shape):
        served, x = on_gpu(network_of(family, shape, "cuda"), pass_rows=64), rows_of(64, shape)
        together = served.predict([x])
        for n in range(1, 64):
            np.testing.assert_array_equal(served.predict([x[-n:]]), together[-n:])

    def test_two_threads_get_their_own_answers(self):
        served, x = on_gpu(network_of(Cnn(), (1, 28, 28), "cuda"), pass_rows=64), rows_of(640, (1, 28, 28))
        want = np.concatenate([served.predict([x[at : at + 64]]) for at in range(0, 640, 64)])

        def ask(at):
            return np.array_equal(served.predict([x[at : at + 13]]), want[at : at + 13])

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(ask, list(range(0, 620, 13)) * 50))

    def test_bytes_are_answered_as_the_floats_that_they_stand_for(self):
        x = np.random.default_rng(0).integers(0, 256, (70, *IMAGE), np.uint8)
        as_bytes, as_floats = (on_gpu(network_of(device="cuda"), dtype=kind) for kind in ("UINT8", "FP32"))
        np.testing.assert_array_equal(
            as_bytes.predict([x]), as_floats.predict([x.astype(np.float32) / np.float32(255)])
        )

    @pytest.mark.parametrize(("precision", "off"), [("tf32", 0.01), ("bfloat16", 0.05)])
    def test_lower_precision_is_near_and_leaves_the_others_exact(self, precision, off):
        family, shape = Cnn(), (1, 28, 28)
        exact, x = on_gpu(network_of(family, shape, "cuda"), pass_rows=64), rows_of(64, shape)
        before = exact.predict([x])
        rough = on_gpu(network_of(family, shape, "cuda"), precision)
        assert rough.platform == f"pytorch_{precision}" and captured(rough)[-1] == rough.rows
        assert 0 < np.abs(rough.predict([x]) - before).max() < off
        np.testing.assert_array_equal(exact.predict([x]), before)
        again = on_gpu(network_of(family, shape, "cuda"), pass_rows=64)
        np.testing.assert_array_equal(again.predict([x]), before)

    def test_networks_side_by_side_are_one_graph(self):
        members = [network_of(Cnn(4, 16)).module for _ in range(3)]
        network = network_of(device="cuda")
        served = on_gpu(Network(Abreast(members), network.family, network.card(), device="cuda"))
        x = rows_of(20)
        assert captured(served)[-1] == served.rows
        probs = served.predict([x])
        assert probs.shape == (20, 5, 3)
        np.testing.assert_allclose(probs[:, :, 1], network.predict(x), atol=1e-5)

    def test_what_cannot_be_captured_runs_without_graphs_and_frees_what_it_took(self, caplog):
        def eat(rows):
            held = torch.zeros(2**28, device=rows.device)
            torch.zeros(2**48, device=rows.device).add_(held)

        network = network_of(Mlp((4,)), (2,), "cuda")
        network.module = Hungry(eat)
        with caplog.at_level(logging.WARNING, logger="server"):
            served = Lanes(network, np.zeros((3, 2), np.float32), name="v", sizes=(1, 4, 8))
        assert sum("runs without CUDA graphs" in record.getMessage() for record in caplog.records) == 1
        before = torch.cuda.memory_reserved()
        for _ in range(2 * cuda.LANES):
            with pytest.raises(MemoryError, match="out of memory"):
                served([np.ones((2, 2), np.float32)])
            np.testing.assert_allclose(echoed(served([np.full((2, 2), 0.25, np.float32)]))[0], 0.25, atol=1e-5)
        assert torch.cuda.memory_reserved() <= before + 2**26
        # Others are captured and answered after it.
        assert captured(on_gpu(network_of(device="cuda")))

    def test_a_served_model_answers_over_http(self, tmp_path):
        folder.save(network_of(), tmp_path / "net")
        config = tmp_path / "range.toml"
        config.write_text(
            'state = "state"\ndevice = "cuda"\n[plans.free]\n[[victims]]\nname = "v"\nfolder = "net"\n'
        )
        x = rows_of(70)
        with local_server(config) as server:
            endpoint = server.endpoint("v", plan="free")
            np.testing.assert_allclose(endpoint(x).probs, network_of().predict(x), atol=1e-5)
