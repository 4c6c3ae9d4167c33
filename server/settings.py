"""A server's settings: its TOML file, checked."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cli.money import MICRO
from server.http.origins import OriginSettings
from server.layer_tables import check_table, defense_class, faults, layer_placed
from wire import BadInput
from wire.files import TEXT, read_bytes

MOST = 1000  # the highest price of a row or a request, in the currency's unit


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Plan(_Strict):
    """The prices and defences of the accounts on a plan.

    Attributes:
        price_per_row: Price of a row, in the currency's unit, to the micro-cent (8 decimals).
        price_per_request: Price of a request, likewise.
        price_per_prompt_token: Price of a token of a prompt to a language model, likewise.
        price_per_completion_token: Price of a token that a language model tells, likewise.
        defenses: Layers outside every victim's own, in the same form. Limits among them are kept per account, over
            all victims together.
        skip: Types of victims' defences that do not apply.
        admin: Whether its keys give access to ``/admin``.
    """

    price_per_row: Decimal = Decimal(0)
    price_per_request: Decimal = Decimal(0)
    price_per_prompt_token: Decimal = Decimal(0)
    price_per_completion_token: Decimal = Decimal(0)
    defenses: tuple[dict[str, Any], ...] = ()
    skip: tuple[str, ...] = ()
    admin: bool = False

    @field_validator(
        "price_per_row",
        "price_per_request",
        "price_per_prompt_token",
        "price_per_completion_token",
        mode="before",
    )
    @classmethod
    def _exact(cls, price: Any) -> Decimal:
        try:
            exact = Decimal(str(price))
            whole = (
                exact.is_finite() and 0 <= exact <= MOST and exact * MICRO == (exact * MICRO).to_integral_value()
            )
        except ArithmeticError:
            whole = False
        if not whole or isinstance(price, bool):
            raise ValueError(f"a price is a number from 0 to {MOST} with at most 8 decimals, not {price!r}")
        return exact

    @field_validator("defenses")
    @classmethod
    def _layers(cls, layers: tuple[dict[str, Any], ...]) -> tuple[dict[str, Any], ...]:
        for layer in layers:
            check_table(layer)
        return layers

    @field_validator("skip")
    @classmethod
    def _known(cls, skip: tuple[str, ...]) -> tuple[str, ...]:
        for name in skip:
            defense_class(name)
        return skip


class Recipe(_Strict):
    """A victim that the server trains at its first start.

    Attributes:
        name: Name of a ready recipe (``python -m zoo train --help``); or
        data: name of a data set; by default Fashion-MNIST, or the digits that a dependency carries where it cannot
            be had; and
        family: name of a model family; and
        checkpoints: how many states of the weights are kept; the detector HODA takes 11.
        seed: Seed of the split into roles and of the training, for experiments that are to be reproduced: anyone
            who knows it can split a public data set alike. By default the split is drawn at random once, and lies
            in the state folder.
    """

    name: str | None = None
    data: str | None = None
    family: str = "cnn"
    checkpoints: int = Field(0, ge=0)
    seed: int | None = Field(None, ge=0)

    @model_validator(mode="after")
    def _one_way(self) -> Recipe:
        if self.name is not None and self.model_fields_set & {"data", "family", "checkpoints"}:
            raise ValueError("give either the name of a recipe, or data, family and checkpoints")
        return self


class Victim(_Strict):
    """A served model.

    Attributes:
        name: Its name in URLs.
        folder: Folder of a saved model; or
        recipe: How to train it.
        version: Its version in URLs and metadata.
        max_rows: Most rows in one request, or tokens: those of prompts, and as many as may be told.
        dtype: Type of its rows on the wire; with ``UINT8`` they are bytes, which the device scales to [0, 1].
        engine: The engine of its forward passes; ``auto`` is ONNX Runtime on a CPU where it agrees with torch, or
            else torch.
        precision: Type of its weights; ``bfloat16`` needs torch, and changes answers. ``tf32`` keeps float32, and
            on a GPU rounds the factors of products to 10 bits of mantissa. With ``float64``, for networks on a
            CPU, rows and probabilities are FP64 on the wire: an exhibit of what exact answers give away.
        pass_rows: On a GPU, the one size to which every forward pass is padded, so that a row's answer does not
            depend on how many rows share its pass. By default there are up to six sizes, from 1 row to 1,024: a
            lone row is answered sooner, but not to the last bit as it is among others.
        embeddings: Whether a language model answers ``/v1/embeddings``, with the mean of its last hidden states.
            Its layers do not protect these, of which its logits are a linear function.
        leaves: Whether answers tell the leaf of each tree that a row reaches, where no layer changes them.
        defenses: The layers around it, outermost first, each a table with its ``type`` and its fields.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    folder: Path | None = None
    recipe: Recipe | None = None
    version: str = Field("1", pattern=r"^[A-Za-z0-9._-]+$")
    max_rows: int = Field(1024, ge=1, le=65536)
    dtype: Literal["FP32", "UINT8"] = "FP32"
    engine: Literal["auto", "onnxruntime", "torch"] = "auto"
    precision: Literal["float32", "tf32", "bfloat16", "float64"] = "float32"
    pass_rows: int | None = Field(None, ge=1, le=65536)
    embeddings: bool = False
    leaves: bool = False
    defenses: tuple[dict[str, Any], ...] = ()

    @model_validator(mode="after")
    def _one_source(self) -> Victim:
        if (self.folder is None) == (self.recipe is None):
            raise ValueError("give either a folder or a recipe")
        if self.engine == "onnxruntime" and self.precision != "float32":
            raise ValueError(f'precision = "{self.precision}" is torch\'s; expected engine = "torch" or "auto"')
        if self.dtype == "UINT8" and self.precision == "float64":
            raise ValueError('precision = "float64" takes rows of FP64; leave out dtype = "UINT8"')
        for layer in self.defenses:
            check_table(layer)
        return self


class Settings(_Strict):
    """A server's settings.

    Attributes:
        host: Address to bind.
        hosts: Names by which clients may call the server besides the address; names of the loopback are always
            allowed. By default any name, or the loopback's alone if the address is one of its.
        port: Port to bind.
        state: Folder for the store, trained victims and roles.
        store: URL of the store; by default a SQLite file in the state folder.
        data: Folder where data sets lie.
        device: Where models run; ``auto`` is a GPU with CUDA if there is one.
        threads: Threads of one forward pass on a CPU; more workers are a better use of more cores.
        max_body: Most bytes of a request's body, before and after decompression.
        max_json: Most bytes of JSON in it; larger requests send tensors in binary.
        account_bodies: Most bytes that the bodies of an account's requests in flight may take.
        account_rows: Most rows that an account may have in flight in a worker; a lone request may have more. It
            bounds what an account is told before an alarm that another worker raises.
        all_bodies: Most bytes that the bodies of all requests in flight may take.
        refusals_burst: How many requests of an account, or of all clients without a key together, may be refused
            at once; the next ones are not read, and their refusals are held back for a second. A request that
            took several milliseconds to read counts as so many.
        refusals_per_second: How many may be refused from then on. Each worker counts for itself.
        body_seconds: How long a body may take to arrive.
        max_head: Most bytes of a request's line and headers.
        head_seconds: How long a head may take to arrive, and a connection may idle.
        read_seconds: How long a client may take to read an answer.
        drain_seconds: How long a stopping server answers 503 before it closes its port.
        workers: Number of processes that serve; several need Redis as their store.
        origins: Notes where each request comes from; without this table, nothing is noted.
        access_log: File that records the rows of every request, for ``detect`` and ``calibrate``; none by
            default. Rows are kept in files beside it.
        alarm_webhook: URL to which each alarm is posted as JSON.
        metrics_port: Port of the metrics for Prometheus, on the same host; none by default.
        log: The log's form; ``json`` also logs every request.
        plans: The plans, by name.
        victims: The served models.
    """

    host: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    port: int = Field(8000, ge=0, le=65535)
    state: Path = Path("state")
    store: str | None = None
    data: Path | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(1, ge=1, le=256)
    max_body: int = Field(64 * 2**20, ge=1024)
    max_json: int = Field(2**20, ge=1024)
    account_bodies: int = Field(128 * 2**20, ge=1024)
    account_rows: int = Field(16_384, ge=1)
    all_bodies: int = Field(512 * 2**20, ge=1024)
    refusals_burst: int = Field(100, ge=1)
    refusals_per_second: float = Field(5, gt=0, allow_inf_nan=False)
    body_seconds: float = Field(30, gt=0, allow_inf_nan=False)
    max_head: int = Field(16 * 2**10, ge=1024)
    head_seconds: float = Field(15, gt=0, allow_inf_nan=False)
    read_seconds: float = Field(60, gt=0, allow_inf_nan=False)
    drain_seconds: float = Field(1, ge=0, allow_inf_nan=False)
    workers: int = Field(1, ge=1, le=1024)
    origins: OriginSettings | None = None
    access_log: Path | None = None
    alarm_webhook: str | None = Field(None, pattern=r"^https?://")
    metrics_port: int | None = Field(None, ge=0, le=65535)
    log: Literal["text", "json"] = "text"
    plans: dict[str, Plan] = Field(min_length=1)
    victims: tuple[Victim, ...] = Field(min_length=1)

    @field_validator("victims")
    @classmethod
    def _distinct(cls, victims: tuple[Victim, ...]) -> tuple[Victim, ...]:
        names = [victim.name for victim in victims]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two victims are named {', '.join(sorted(twice))}")
        return victims

    @model_validator(mode="after")
    def _shared(self) -> Settings:
        if self.workers > 1 and self.store_url().startswith("sqlite:"):
            raise ValueError(
                f"{self.workers} workers need a store that they can share: expected redis://HOST:PORT/N, "
                f"not {self.store_url()}"
            )
        return self

    def store_url(self) -> str:
        """Returns the URL of the store."""
        return self.store or f"sqlite:///{self.state / 'range.sqlite'}"


DEFAULT: dict[str, Any] = {
    "plans": {
        "attacker": {"price_per_row": "0.0001"},
        "owner": {"skip": ["rate_limit", "quota"]},
        "admin": {"admin": True},
    },
    "victims": [
        {
            "name": "victim",
            "recipe": {},
            "defenses": [
                {"type": "rate_limit", "rows_per_second": 2000, "burst": 4000},
                {"type": "quota", "rows": 100_000, "per": "day"},
            ],
        }
    ],
}
"""The settings of a server without a configuration file."""


def read_settings(path: Path | None, **overrides: Any) -> Settings:
    """Reads a TOML file, or the default settings where there is none; folders in it are relative to the file.

    Raises:
        BadInput: The file cannot be read, or a setting is invalid.
    """
    try:
        given = DEFAULT if path is None else tomllib.loads(read_bytes(path, TEXT).decode())
    except BadInput:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: {error}") from None
    try:
        settings = Settings(**{**given, **{name: value for name, value in overrides.items() if value is not None}})
    except ValidationError as error:
        raise BadInput(f"{path or 'settings'}: {faults(error)}") from None
    if path is None:
        return settings
    home = path.parent
    plans = {name: plan.model_copy(update=_placed(home, plan)) for name, plan in settings.plans.items()}
    victims = tuple(victim.model_copy(update=_placed(home, victim)) for victim in settings.victims)
    relative: dict[str, Any] = {"plans": plans, "victims": victims}
    if "state" in given and "state" not in {k for k, v in overrides.items() if v is not None}:
        relative["state"] = home / settings.state
    if settings.access_log is not None:
        relative["access_log"] = home / settings.access_log
    return settings.model_copy(update=relative)


def _placed(home: Path, given: Plan | Victim) -> dict[str, Any]:
    """Returns the members that name files, relative to the folder of the configuration."""
    placed: dict[str, Any] = {"defenses": tuple(layer_placed(home, layer) for layer in given.defenses)}
    if isinstance(given, Victim) and given.folder is not None:
        placed["folder"] = home / given.folder
    return placed
