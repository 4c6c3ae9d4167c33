"""The measurements: a server, an encoding, and a number of connections."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.serving.engine import ENGINES
from benchmarks.serving.servers import Ours, Rival, Server

HISTORY = 10_000_000  # rows
RAW_ROWS = (1, 8, 32, 64, 128)


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        server: The server.
        model: Name of the model there.
        encoding: Name of the encoding of rows.
        rows: Rows in a request.
        connections: Number of connections; each sends its next request when the last is answered.
        stretch: Length of its window, as a multiple of the others'.
    """

    server: Server
    model: str
    encoding: str
    rows: int
    connections: int
    stretch: int = 1

    @property
    def name(self) -> str:
        """Its name among the figures."""
        model = "" if self.model == "cnn" else f" {self.model}"
        return f"{self.server.name}{model} {self.encoding} {self.rows}x{self.connections}"

    @property
    def family(self) -> str:
        """The network's family."""
        return self.model.partition("-")[0]

    @property
    def defended(self) -> bool:
        """Whether defences change the probabilities."""
        return self.model.endswith("-defended")


def raw(family: str, engine: str, rows: int) -> str:
    """Returns the name of a raw forward pass among the figures."""
    return f"raw {family} {engine} {rows}"


RAW = [("cnn", engine, rows) for engine in ENGINES for rows in RAW_ROWS] + [
    ("resnet", engine, 32) for engine in ("torch", "onnxruntime")
]

_ONE, _MANY, _BULK = (1, 1), (1, 32), (64, 4)

OURS, REDIS, FOUR = Ours(), Ours(store="redis"), Ours(store="redis", workers=4)
OLD = Ours(history=HISTORY)


def _litserve(engine: str, batched: bool) -> Rival:
    return Rival("litserve", "litserve_api", engine, batched, restless=batched)


def _mlserver(engine: str, batched: bool) -> Rival:
    return Rival("mlserver", "mlserver_runtime", engine, batched)


CASES = [
    *(
        Case(OURS, model, encoding, *size)
        for model, encoding, size in (
            ("cnn", "binary", _BULK),
            ("cnn-defended", "binary", _BULK),
            ("cnn-torch", "binary", _BULK),
            ("cnn-torch-defended", "binary", _BULK),
            ("cnn", "JSON", _BULK),
            ("cnn", "binary", _ONE),
            ("cnn-torch", "binary", _ONE),
            ("cnn", "binary", _MANY),
            ("cnn-defended", "binary", _MANY),
            ("cnn-torch", "binary", _MANY),
            ("cnn", "JSON", _MANY),
            ("cnn-torch", "JSON", _MANY),
        )
    ),
    Case(OURS, "resnet", "binary", 16, 2, stretch=4),
    Case(OURS, "resnet-defended", "binary", 16, 2, stretch=4),
    *(Case(server, "cnn-defended", "binary", *size) for server in (REDIS, FOUR, OLD) for size in (_MANY, _BULK)),
    *(Case(Rival("fastapi", "naive_fastapi"), "cnn", "JSON", *size) for size in (_ONE, _MANY, _BULK)),
    *(
        Case(_litserve(engine, batched), "cnn", encoding, *size)
        for engine in ("torch", "onnxruntime")
        for batched, encoding, size in (
            (False, "JSON", _ONE),
            (False, "base64", _ONE),
            (False, "JSON", _MANY),
            (False, "base64", _MANY),
            (False, "base64", _BULK),
            (True, "JSON", _MANY),
            (True, "base64", _MANY),
            (True, "base64", _BULK),
        )
    ),
    *(
        Case(_mlserver(engine, batched), "cnn", encoding, *size)
        for engine in ("torch", "onnxruntime")
        for batched, encoding, size in (
            (False, "base64", _ONE),
            (False, "base64", _MANY),
            (True, "JSON", _MANY),
            (True, "base64", _MANY),
            (True, "base64", _BULK),
        )
    ),
    *(
        Case(Rival(environment, script, restless=environment == "ray"), "cnn", "JSON", *size)
        for environment, script in (("bentoml", "bentoml_service"), ("ray", "ray_serve"))
        for size in (_ONE, _MANY)
    ),
]
"""Every measurement over HTTP, in the order in which a round makes them."""
