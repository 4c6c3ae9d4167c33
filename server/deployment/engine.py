"""Engines run forward passes.

On a CPU a network is exported to ONNX Runtime, which is several times as fast as torch on small networks. It has
to pass a check: its answers must equal torch's, and must not depend on the other rows of a pass. Where the check
fails, torch serves, as it does on a GPU; see :mod:`server.deployment.cuda`. Where the last bits of torch's own
answers depend on the other rows, the log says so.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from server.deployment.cuda import LANES, Lanes
from server.settings import Victim
from wire import Array, BadInput, Card
from wire.tensors import DATATYPES
from zoo.cache import once
from zoo.families import name_of
from zoo.model import Model
from zoo.network import PASS as TORCH_PASS
from zoo.network import Network

Forward = Callable[[Array], Array]
Predict = Callable[[Sequence[Array]], Array]

PASS = 64  # most rows of a pass outside torch: their activations stay in a CPU's caches
TOLERANCE = 1e-5  # between two engines' probabilities, or embeddings as a share of the greatest number
SIZES = (1, 2, 3, 5, 7, 11, 13)  # rows of the passes that must agree with a full one
SPARSE = 0.1  # share of missing features

_DTYPES = {"bfloat16": torch.bfloat16, "float64": torch.float64}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Engine:
    """Computes the answers about rows.

    Attributes:
        predict: From the parts of a pass, arrays of rows ``(n, *input_shape)``, to the class probabilities of all
            their rows, ``(n, k)`` float32. Two threads may run a pass each.
        platform: Its name in the protocol's metadata.
        rows: Most rows in one pass.
        beside: Whether even the shortest pass belongs beside the event loop.
        width: Most passes at a time. With three on two cores, the event loop gathers the next one while both are
            busy.
    """

    predict: Predict
    platform: str
    rows: int
    beside: bool = False
    width: int = 3


def engine_of(model: Model, victim: Victim, card: Card, cache: Path, threads: int) -> Engine:
    """Chooses the engine of a victim.

    Args:
        model: The victim's model; where it is a network, its weights take the precision that the operator wants.
        victim: Its settings.
        card: Its card.
        cache: Folder of exported models.
        threads: Threads of one pass on a CPU.

    Raises:
        BadInput: The model cannot be served as the settings want it.
    """
    try:
        network = model.network()
    except BadInput as error:
        if (victim.engine, victim.precision) != ("auto", "float32"):
            raise BadInput(
                f'engine = "{victim.engine}" and precision = "{victim.precision}" are for networks, and {error}; '
                f'expected "auto" and "float32"'
            ) from None
        return _joining(model.predict, "python_classifier", PASS)
    if next(network.module.parameters(), None) is None and victim.precision != "float32":
        raise BadInput(
            f'precision = "{victim.precision}" is for weights, of which a {name_of(network.family)} has none'
        )
    if next(network.module.parameters(), None) is not None:  # what is fitted computes in dtypes of its own
        network.module.to(_DTYPES.get(victim.precision, torch.float32))
    if network.device.type == "cuda" and victim.precision == "float64":
        raise BadInput('precision = "float64" is served on a CPU; expected device = "cpu"')
    if network.device.type == "cuda":
        return _on_gpu(network, victim, card)
    if victim.precision == "tf32":
        raise BadInput('precision = "tf32" needs a GPU; expected "float32" or "bfloat16" on a CPU')
    if victim.engine != "torch" and victim.precision == "float32":
        served = _exported(network, card, cache, threads)
        if isinstance(served, Engine):
            return served
        if victim.engine == "onnxruntime":
            raise BadInput(f"ONNX Runtime cannot serve it, since {served}")
        log.warning("%s is served by torch, since %s", card.model, served)
    fault = fault_of(network.predict, network.predict, drawn(card, PASS))
    if fault is not None:
        log.warning("%s on this processor, in torch: %s, in their last bits", card.model, fault)
    return _joining(network.predict, f"pytorch_{victim.precision}", TORCH_PASS["cpu"])


def leaf_engine(network: Network) -> Engine:
    """Returns the engine that finds the leaves which rows reach, ``(n, trees)`` int64."""
    return _joining(network.leaves, "pytorch_leaves", PASS)


def _on_gpu(network: Network, victim: Victim, card: Card) -> Engine:
    sizes = (victim.pass_rows,) if victim.pass_rows else ()
    try:
        lanes = Lanes(network, drawn(card, PASS), name=card.model, sizes=sizes, tf32=victim.precision == "tf32")
    except torch.OutOfMemoryError as error:
        raise BadInput(f"the GPU has too little memory for it: {str(error).partition('. ')[0]}") from None
    return Engine(lanes, f"pytorch_{victim.precision}", lanes.rows, beside=True, width=LANES)


def _exported(network: Network, card: Card, cache: Path, threads: int) -> Engine | str:
    """Returns a network in ONNX Runtime, or the reason why it cannot run there."""
    try:
        folder = once(
            cache / "onnx" / _key(network, card.dtype),
            lambda path: (path / "graph.onnx").write_bytes(_graph(network, drawn(card, 2))),
        )
        predict = _session(folder / "graph.onnx", threads)
        fault = fault_of(predict, network.predict, drawn(card, PASS))
    except Exception as error:  # the exporter and the runtime raise anything
        return f"its export fails: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return fault or _joining(predict, "onnxruntime_float32", PASS)


def _key(network: Network, dtype: str) -> str:
    """Returns a hash of everything that an export depends on, in hexadecimal."""
    parts = (network.family, network.input_shape, network.classes, dtype, torch.__version__)
    key = hashlib.sha256(repr(parts).encode())
    for name, tensor in network.module.state_dict().items():
        key.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return key.hexdigest()[:32]


def _graph(network: Network, example: Array) -> bytes:
    for name in ("onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.WARNING)  # they log every step
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            network.answering().eval(),
            (torch.from_numpy(example),),
            input_names=["rows"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None  # only the older exporter returns nothing
    graph: bytes = program.model_proto.SerializeToString()
    return graph


def _session(graph: Path, threads: int) -> Forward:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def predict(x: Array) -> Array:
        probs: Array = session.run(None, {"rows": x})[0]
        return probs

    return predict


def fault_of(predict: Forward, truth: Forward, rows: Array) -> str | None:
    """Returns the reason why an engine may not serve, or None.

    Args:
        predict: The engine.
        truth: Gives the right answers.
        rows: A full pass of rows.
    """
    together = predict(rows)
    right = truth(rows)
    difference = float(np.abs(together - right).max() / max(1.0, np.abs(right).max()))
    if not difference <= TOLERANCE:  # NaN is no better
        return f"its answers differ from torch's by {difference:.1e}, more than {TOLERANCE:.0e}"
    for n in SIZES:
        if not np.array_equal(predict(rows[-n:]), together[-n:]):
            return f"its answers about {n} rows change with the {len(rows) - n} rows beside them"
    return None


def drawn(card: Card, n: int) -> Array:
    """Draws rows, ``(n, *input_shape)``, that fit a card, of every magnitude; the same ones every time."""
    if card.dtype == "BYTES":
        return np.array(["some words that make a text " * 32] * n, DATATYPES[card.dtype])
    rng = np.random.default_rng(0)
    shape = (n, *card.input_shape)
    if card.low is None or card.high is None:
        rows = np.clip(rng.standard_normal(shape), card.low, card.high)
    else:
        strength = rng.random((n, *(1 for _ in card.input_shape)))
        rows = card.low + (card.high - card.low) * strength * rng.random(shape)
    for column, feature in enumerate(card.features):
        if feature.categories:
            rows[:, column] = rng.integers(len(feature.categories), size=n)
    if card.missing:
        rows[rng.random(shape) < SPARSE] = np.nan
    return rows.astype(DATATYPES[card.dtype])


def _joining(forward: Forward, platform: str, rows: int) -> Engine:
    """Returns an engine that joins the parts of a pass."""

    def predict(parts: Sequence[Array]) -> Array:
        return forward(parts[0] if len(parts) == 1 else np.concatenate(parts))

    return Engine(predict, platform, rows)
