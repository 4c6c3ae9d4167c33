"""The measurements: a server, an encoding, and a load; and the parts of the benchmark that they make up."""

from __future__ import annotations

from dataclasses import dataclass, replace

from benchmarks.serving.engine import ENGINES
from benchmarks.serving.servers import Ours, Rival, Server

HISTORY = 10_000_000  # rows
VICTIMS = 10
RAW_ROWS = (1, 8, 32, 64, 128)


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        server: The server.
        model: Name of the model there.
        encoding: Name of the encoding of rows.
        rows: Rows in a request.
        connections: Number of connections.
        rate: Requests per second of an open loop; None for a closed one, in which each connection sends its next
            request when the last is answered.
        victims: Number of models with the same network over which the connections are spread.
        stretch: Length of its window, as a multiple of the others'.
    """

    server: Server
    model: str
    encoding: str
    rows: int
    connections: int
    rate: int | None = None
    victims: int = 1
    stretch: float = 1

    @property
    def name(self) -> str:
        """Its name among the figures."""
        model = "" if self.model == "cnn" else f" {self.model}"
        rate = "" if self.rate is None else f" at {self.rate}/s"
        victims = "" if self.victims == 1 else f" over {self.victims} victims"
        return f"{self.server.name}{model} {self.encoding} {self.rows}x{self.connections}{rate}{victims}"

    @property
    def family(self) -> str:
        """The network's family."""
        return self.model.partition("-")[0]

    @property
    def defended(self) -> bool:
        """Whether defences change the probabilities."""
        return self.model.endswith("-defended")

    def model_of(self, connection: int) -> str:
        """Returns the name of the model that a connection asks."""
        number = connection % self.victims
        return f"{self.model}-{number + 1}" if number else self.model


@dataclass(frozen=True)
class Forward:
    """A raw forward pass: a family's network in an engine, with so many rows."""

    family: str
    engine: str
    rows: int

    @property
    def name(self) -> str:
        """Its name among the figures."""
        return f"raw {self.family} {self.engine} {self.rows}"


@dataclass(frozen=True)
class Part:
    """A part of the benchmark that can be run alone.

    Attributes:
        setting: What it measures, in a sentence.
        cases: The measurements over HTTP or gRPC, in the order in which a round makes them.
        forwards: The raw forward passes.
        watching: Whether PRADA is measured, by the number of rows that an account has sent before.
    """

    setting: str
    cases: tuple[Case, ...]
    forwards: tuple[Forward, ...] = ()
    watching: bool = False


ONE, MANY, BULK = (1, 1), (1, 32), (64, 4)

OURS, OLD, TEN, WATCHED = Ours(), Ours(history=HISTORY), Ours(victims=VICTIMS), Ours(watched=True)
REDIS, TWO, FOUR = (Ours(store="redis", workers=workers) for workers in (1, 2, 4))
MOSEC, MOSEC_UNBATCHED = (Rival("mosec", "mosec_worker", batched) for batched in (True, False))
LITSERVE = Rival("litserve", "litserve_api", batched=True, restless=True)
LITSERVE_UNBATCHED = replace(LITSERVE, batched=False, restless=False)
MLSERVER, MLSERVER_UNBATCHED = (Rival("mlserver", "mlserver_runtime", batched) for batched in (True, False))
KSERVE, TRITON = Rival("kserve", "kserve_model"), Rival("triton", "triton_callable")
FASTAPI, BENTOML = Rival("fastapi", "naive_fastapi"), Rival("bentoml", "bentoml_service")
RAY = Rival("ray", "ray_serve", restless=True)
BARE = Rival("bare", "bare_loop")

_RATES = (500, 1000, 2000, 4000)
_CONNECTIONS = (1, 8, 32, 128, 512, 1000)
_SHORT = 0.4  # of a window: where what counts is a course or a factor

_RAW = tuple(Forward("cnn", "onnxruntime", rows) for rows in RAW_ROWS)
_BINARY = tuple(Case(OURS, model, "binary", *size) for size in (BULK, MANY) for model in ("cnn", "cnn-defended"))

PARTS: dict[str, Part] = {
    "headline": Part(
        "closed loop; ours with keys and with all defences, Mosec, LitServe, a bare loop, the raw forward pass",
        (
            *_BINARY,
            *(Case(server, "cnn", "octets", *size) for server in (MOSEC, BARE) for size in (BULK, MANY)),
            *(Case(server, "cnn", "base64", *MANY) for server in (LITSERVE, LITSERVE_UNBATCHED)),
        ),
        _RAW,
    ),
    "open-loop": Part(
        "requests of one row fall due at a constant rate; latency counts from then",
        tuple(
            Case(server, model, encoding, 1, 128, rate, stretch=0.6)
            for rate in _RATES
            for server, model, encoding in (
                (OURS, "cnn", "binary"),
                (OURS, "cnn-defended", "binary"),
                (MOSEC, "cnn", "octets"),
            )
        ),
    ),
    "connections": Part(
        "closed loop, one row, by the number of connections",
        tuple(
            Case(server, "cnn", encoding, 1, connections, stretch=_SHORT)
            for connections in _CONNECTIONS
            for server, encoding in ((OURS, "binary"), (MOSEC, "octets"))
        ),
    ),
    "victims": Part(
        f"closed loop, 32 connections spread over some of {VICTIMS} loaded victims",
        tuple(
            Case(TEN, "cnn", "binary", *MANY, victims=victims, stretch=_SHORT) for victims in (1, 2, 5, VICTIMS)
        ),
    ),
    "workers": Part(
        "closed loop, all defences, by store and number of workers; also with 32 connections for each worker",
        tuple(
            Case(server, "cnn-defended", "binary", *size)
            for server, sizes in (
                (OURS, (MANY, BULK)),
                (REDIS, (MANY, BULK)),
                (TWO, (MANY, (1, 64), BULK)),
                (FOUR, (MANY, (1, 128), BULK)),
            )
            for size in sizes
        ),
    ),
    "history": Part(
        f"closed loop; a store that has charged {HISTORY:,} rows; PRADA by the rows that an account has sent",
        tuple(
            Case(server, "cnn-defended", "binary", *size, stretch=_SHORT)
            for server in (OURS, OLD)
            for size in (MANY, BULK)
        ),
        watching=True,
    ),
    "engines": Part(
        "closed loop; ours on torch and ONNX Runtime, in binary and JSON, and a residual network",
        tuple(
            Case(OURS, model, encoding, *size, stretch=_SHORT)
            for model, encoding, size in (
                ("cnn", "JSON", BULK),
                ("cnn", "JSON", MANY),
                ("cnn-torch", "binary", BULK),
                ("cnn-torch-defended", "binary", BULK),
                ("cnn-torch", "binary", MANY),
            )
        )
        + tuple(Case(OURS, model, "binary", 16, 2) for model in ("resnet", "resnet-defended")),
        tuple(Forward("cnn", engine, rows) for engine in ENGINES for rows in (1, 32, 64))
        + tuple(Forward("resnet", engine, 32) for engine in ("torch", "onnxruntime")),
    ),
    "rivals": Part(
        "closed loop; every server in its encodings, on ONNX Runtime",
        tuple(
            Case(server, "cnn", encoding, *size, stretch=_SHORT)
            for server, encoding, sizes in (
                (OURS, "binary", (ONE, MANY, BULK)),
                (MOSEC, "octets", (ONE, MANY, BULK)),
                (MOSEC_UNBATCHED, "octets", (ONE, MANY, BULK)),
                (TRITON, "binary", (MANY, BULK)),
                (TRITON, "gRPC", (MANY, BULK)),
                (KSERVE, "binary", (MANY, BULK)),
                (KSERVE, "gRPC", (MANY, BULK)),
                (MLSERVER_UNBATCHED, "gRPC", (MANY, BULK)),
                (MLSERVER, "gRPC", (MANY, BULK)),
                (MLSERVER, "base64", (MANY,)),
                (LITSERVE_UNBATCHED, "base64", (ONE, MANY)),
                (LITSERVE, "base64", (MANY, BULK)),
                (FASTAPI, "JSON", (MANY,)),
                (BENTOML, "JSON", (MANY,)),
                (RAY, "JSON", (MANY,)),
            )
            for size in sizes
        ),
    ),
}
"""The parts, in the order in which they run."""
