"""Whether a client gets its answers beside a flood of small requests that are made to cost much.

A client on one connection asks about one row at a time, alone and beside each kind of flood in turn. A flood sends
bodies of at most 64 KB as fast as they are answered: JSON of half a million numbers and nulls, deep lists, a shape
of 16 million texts, and the like, most of them packed. The server refuses each of them. The figure is the client's
median latency beside the flood, over its median alone in the same round.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks.measure import ratios
from benchmarks.serving.encodings import BINARY, Http
from benchmarks.serving.load import Tally, load
from experiments.header import header
from experiments.lab import Lab
from experiments.parties import Parties, Server
from wire import Array, BadInput
from wire.tensors import HEADER_LENGTH
from zoo.families.cnn import Cnn
from zoo.network import Network

SMALL, MB = 2**16, 2**20
SHAPE, CLASSES, MODEL = (1, 28, 28), tuple("0123456789"), "victim"


@dataclass(frozen=True)
class Flood:
    """Times one client beside floods.

    Attributes:
        connections: Connections of a flood.
        rounds: Rounds over all kinds of flood.
        seconds: Length of a measurement.
    """

    connections: int = 8
    rounds: int = 3
    seconds: float = 3.0

    def __post_init__(self) -> None:
        if self.connections < 4 or self.rounds < 1 or not 0.5 <= self.seconds <= 60:
            raise BadInput(
                "flood: connections must be at least 4, rounds at least 1 and seconds lie between 0.5 and 60, not "
                f"{self.connections}, {self.rounds} and {self.seconds:g}"
            )

    def run(self, cache: Path) -> dict[str, Any]:
        """Returns the client's latencies alone and beside each flood, and their ratios.

        Args:
            cache: Folder of what a later run finds again.
        """
        network = Network.new(Cnn(), SHAPE, CLASSES, seed=0, device="cpu")
        rows = np.random.default_rng(0).random((64, *SHAPE), np.float32)
        taken: dict[str, list[Tally]] = {}
        floods: dict[str, list[Tally]] = {}
        with TemporaryDirectory(prefix="mlaas-range-") as out, Parties(Path(out)) as parties:
            served = Lab(parties, cache).serve("flood", {MODEL: (network, "")})
            key = served.account("client", "client")
            honest = [[_request(BINARY, row[None], key) for row in rows]]
            attackers = {
                "one key": [served.account("flood", "client")],
                "four keys": [served.account(f"flood-{number}", "client") for number in range(4)],
                "no key": [""],
            }
            bodies = small_bodies()
            for _ in tqdm(range(self.rounds), desc="floods", unit="round", dynamic_ncols=True):
                taken.setdefault("alone", []).append(self._load(served, honest, 0.5))
                for name, keys in attackers.items():
                    requests = [_packed(bodies, keys[at % len(keys)], at) for at in range(self.connections)]
                    with ThreadPoolExecutor(1) as pool:
                        # The flood begins before the client is measured, and ends after it.
                        other = pool.submit(self._load, served, requests, 0.0, self.seconds + 2.5)
                        taken.setdefault(name, []).append(self._load(served, honest, 1.0))
                        floods.setdefault(name, []).append(other.result())
        alone = [tally.p50 for tally in taken["alone"]]
        return {
            **header(asdict(self), seeds=range(1)),
            "bodies": {name: len(body) for name, (body, _) in bodies.items()},
            "floods": {
                name: {
                    "ratio_of_medians": ratios([tally.p50 for tally in tallies], alone)._asdict(),
                    "client": [asdict(tally) for tally in tallies],
                    "flood": [asdict(tally) for tally in floods.get(name, [])],
                }
                for name, tallies in taken.items()
            },
        }

    def _load(
        self, served: Server, requests: Sequence[Sequence[bytes]], warmup: float, seconds: float | None = None
    ) -> Tally:
        return load(
            [served.pid],
            served.port,
            requests,
            warmup=warmup,
            seconds=self.seconds if seconds is None else seconds,
        )


def small_bodies() -> dict[str, tuple[bytes, Mapping[str, str]]]:
    """Returns bodies of at most 64 KB that would cost a careless server much, each with its headers."""
    full = [1024, *SHAPE]
    deep = b"[" * 500 + b"]" * 500
    values = {
        "numbers and nulls": _list_of(b"1,null"),
        "empty lists": _list_of(b"[]"),
        "empty objects": _list_of(b"{}"),
        "deep lists": b"[" * MB,
        "deep and wide lists": _list_of(deep),
        "texts": _list_of(b'""', 4 * MB),
        "numbers that are hard to read": _list_of(b"7.2057594037927933e-17"),
    }
    made = {name: _zipped(_v2(data, full), {}) for name, data in values.items()}
    tensor = b'{"name":"input","shape":[0],"datatype":"FP32","data":[]}'
    made["tensors without values"] = _zipped(b'{"inputs":' + _list_of(tensor) + b"}", {})
    image = b'{"b64":"' + base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(200)) + b'"}'
    made["broken images"] = _zipped(_v2(_list_of(image), full), {})
    size = 4 * 16_777_000
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "input",
                    "shape": [16_777_000],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": size},
                }
            ]
        }
    ).encode()
    made["a shape of 16 million texts"] = _zipped(head + bytes(size), {HEADER_LENGTH: str(len(head))})
    longest = max(len(body) for body, _ in made.values())
    assert longest <= SMALL, f"a body has {longest} bytes"
    return made


def _list_of(part: bytes, size: int = MB) -> bytes:
    return b"[" + b",".join([part] * ((size - 2) // (len(part) + 1))) + b"]"


def _v2(data: bytes, shape: Sequence[int]) -> bytes:
    entry = json.dumps({"name": "input", "shape": list(shape), "datatype": "FP32", "data": "DATA"}).encode()
    return b'{"inputs":[' + entry.replace(b'"DATA"', data) + b"]}"


def _zipped(body: bytes, headers: Mapping[str, str]) -> tuple[bytes, Mapping[str, str]]:
    return gzip.compress(body), {"Content-Encoding": "gzip", "Content-Type": "application/json", **headers}


def _request(encoding: Http, x: Array, key: str) -> bytes:
    return encoding.request(MODEL, x, {"Authorization": f"Bearer {key}"})


def _packed(bodies: Mapping[str, tuple[bytes, Mapping[str, str]]], key: str, first: int) -> list[bytes]:
    """Returns a request with each body, beginning with another one for each connection."""
    known = {"Authorization": f"Bearer {key}"} if key else {}
    made = []
    for body, headers in bodies.values():
        fields = {"Host": "localhost", "Content-Length": str(len(body)), **known, **headers}
        lines = [f"{name}: {value}" for name, value in fields.items()]
        made.append(
            "\r\n".join([f"POST {BINARY.path.format(model=MODEL)} HTTP/1.1", *lines, "", ""]).encode() + body
        )
    first %= len(made)
    return made[first:] + made[:first]


def table(results: Mapping[str, Any]) -> str:
    """Formats the results for a person."""
    lines = ["flood       client's median ms (by round)   over alone (least - greatest)   refused a second"]
    for name, it in results["floods"].items():
        medians = "  ".join(f"{tally['p50']:.2f}" for tally in it["client"])
        ratio = it["ratio_of_medians"]
        refused = [sum(tally["errors"].values()) / tally["seconds"] for tally in it["flood"]]
        rate = f"{np.mean(refused):.0f}" if refused else "-"
        lines.append(
            f"{name:<11} {medians:<31} {ratio['median']:.2f} ({ratio['low']:.2f} - {ratio['high']:.2f})"
            f"              {rate}"
        )
    return "\n".join(lines)
