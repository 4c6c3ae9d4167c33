"""An HTTP transport that speaks the Open Inference Protocol v2."""

from __future__ import annotations

import math
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from wire.connection import Connection
from wire.errors import BadInput, Malformed, Refused
from wire.fits import as_bytes
from wire.oracle import Prices
from wire.tensors import DATATYPES, HEADER_LENGTH, Tensor, pack, read_json, unpack
from wire.types import BLUR, Answer, Array, Card, Feature

ROLES = ("labels", "probs", "logits", "leaves", "embedding")
_COLUMN_PER_CLASS = ("probs", "logits")


@dataclass(frozen=True, slots=True)
class CardOptions:
    """Facts about a model that its server does not report.

    Attributes:
        input: Name of the input tensor to use.
        output: Outputs to ask for, as NAME=labels, NAME=probs, NAME=logits, NAME=leaves or NAME=embedding.
        shape: Shape of one row, without the batch axis.
        classes: Number of classes.
        range: Least and greatest value of a feature.
        max_rows: Maximum number of rows in one request.
    """

    input: str | None = None
    output: tuple[str, ...] = ()
    shape: tuple[int, ...] = ()
    classes: int | None = None
    range: tuple[float, ...] = ()
    max_rows: int | None = None

    def __post_init__(self) -> None:
        if self.range and not (len(self.range) == 2 and -math.inf < self.range[0] < self.range[1] < math.inf):
            raise BadInput(f"--range {' '.join(map(str, self.range))}: expected a least value and a greater one")
        for flag, numbers in (("max-rows", (self.max_rows,)), ("classes", (self.classes,)), ("shape", self.shape)):
            if any(number is not None and number < 1 for number in numbers):
                raise BadInput(f"--{flag} {' '.join(map(str, numbers))}: expected at least 1")


class Endpoint:
    """One account's connection to one model behind a URL.

    Calling it sends one batch of rows and returns the answer. A request whose reply was lost is sent again under
    the same id, so that it is billed once.

    Attributes:
        base: The server's URL.
        model: The model's name.
        card: The model's card, completed or overridden by the options. If features travel as bytes, the card
            gives their range as 0 to 1, the range of the rows in memory.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        key: str | None = None,
        options: CardOptions | None = None,
        client: httpx.Client | None = None,
        tries: int = 3,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Asks the server for the model's card.

        Args:
            url: The server's URL, or the model's own (``.../v2/models/NAME``).
            model: The model's name; not needed if the URL names it or the server has only one.
            key: The account's API key.
            options: Options that complete or override the card.
            client: The HTTP client to use; default: a new one.
            tries: Maximum number of times to send a request when the connection fails.
            sleep: Waits for a number of seconds between attempts.

        Raises:
            BadInput: The URL cannot be used, or the server has several models and none is named.
            Refused: The server has no such model, or refuses the key.
            Unreachable: The server did not answer.
        """
        self._connection = Connection(key=key, client=client, tries=tries, sleep=sleep)
        base, _, rest = url.rstrip("/").partition("/v2/models/")
        self.base = base.removesuffix("/v2")
        named, _, version = rest.partition("/versions/")
        try:
            self.model = model or named or self._only_model()
            self._path = f"{self.base}/v2/models/{self.model}" + (f"/versions/{version}" if version else "")
            self._extensions = self._get(f"{self.base}/v2").get("extensions") or []
            self._binary = "binary_tensor_data" in self._extensions
            self.card = self._complete(options or CardOptions())
        except BaseException as error:
            self.close()
            unreadable = isinstance(error, AttributeError | KeyError | TypeError | ValueError)
            if unreadable and not isinstance(error, BadInput):
                raise Malformed(f"{url}: the model's metadata violates the protocol: {error!r}") from None
            raise

    def __call__(self, x: Array) -> Answer:
        """Sends the rows ``x``, ``(n, *input_shape)``, and returns the answer to all of them.

        Raises:
            Refused: The server refused.
            Malformed: The reply is not an answer to these rows, or the rows cannot be sent as bytes.
            Unreachable: The server did not answer.
        """
        array = as_bytes(x) if self._scaled else np.ascontiguousarray(x, DATATYPES[self.card.dtype])
        outputs = [
            {"name": name, **({"parameters": {"binary_data": True}} if self._binary else {})}
            for name, role in self.card.outputs
            if self.card.tells_probs or role not in _COLUMN_PER_CLASS
        ]
        body, head = pack(
            "inputs",
            [Tensor(self.card.input_name, array, self._binary)],
            {"id": uuid.uuid4().hex, "outputs": outputs},
        )
        headers = {"Content-Type": "application/json" if head is None else "application/octet-stream"}
        if head is not None:
            headers[HEADER_LENGTH] = str(head)
        reply = self._connection.send("POST", f"{self._path}/infer", content=body, headers=headers)
        length = reply.headers.get(HEADER_LENGTH)
        if length is not None and not re.fullmatch(r"\d{1,12}", length):
            raise Malformed(f"{HEADER_LENGTH} must be a number of bytes, not {length[:20]!r}")
        _, tensors = unpack("outputs", reply.content, None if length is None else int(length))
        return self._answer({tensor.name: tensor.array for tensor in tensors}, len(x))

    def account(self) -> dict[str, Any] | None:
        """Returns the server's record of the account (rows used, money spent); None if it keeps no accounts."""
        try:
            return self._get(f"{self.base}/v1/account")
        except (Refused, Malformed):
            return None

    def prices(self) -> Prices | None:
        """Returns the price of a row and of a request, in micro-cents; None if the server does not report it."""
        account = self.account() or {}
        prices = account.get("prices")
        return Prices(int(prices["per_row"]), int(prices["per_request"])) if isinstance(prices, dict) else None

    def close(self) -> None:
        """Closes the connections."""
        self._connection.close()

    def _answer(self, outputs: Mapping[str, Array], rows: int) -> Answer:
        labels: Array | None = None
        probs: Array | None = None
        leaves: Array | None = None
        for name, role in self.card.outputs:
            array = outputs.get(name)
            if array is None:
                continue
            if array.shape[:1] != (rows,):
                raise Malformed(f'asked about {rows} rows, but output "{name}" has shape {array.shape}')
            if role == "labels" and array.size != rows:
                raise Malformed(f'output "{name}" has shape {array.shape}; expected one label per row')
            if role == "labels":
                labels = array.reshape(rows).astype(np.int64)
                continue
            if role == "leaves":
                leaves = array.reshape(rows, -1).astype(np.int64)
                continue
            if role == "embedding":
                if not np.isfinite(array).all():
                    raise Malformed(f'output "{name}" holds numbers that are not finite')
                return Answer.of_embeddings(array.reshape(rows, -1))
            scores = array.reshape(rows, -1).astype(np.float64 if self.card.dtype == "FP64" else np.float32)
            if role == "logits":
                scores = np.exp(scores - scores.max(axis=1, keepdims=True))
                scores /= scores.sum(axis=1, keepdims=True)
            elif np.nanmin(scores, initial=0) < 0 or np.nanmax(scores, initial=0) > 1 + 1e-3:
                raise Malformed(
                    f'output "{name}" holds {np.nanmin(scores):g} to {np.nanmax(scores):g}, which are not '
                    f"probabilities; pass --output {name}=logits if they are logits"
                )
            probs = scores
        if labels is None:
            if probs is None:
                wanted = ", ".join(name for name, _ in self.card.outputs)
                raise Malformed(f"the reply has none of the outputs {wanted}, only {', '.join(outputs)}")
            if np.isnan(probs).all(axis=1).any():
                raise Malformed("the reply has neither a label nor a probability for some rows")
            labels = np.nanargmax(probs, axis=1).astype(np.int64)
        return Answer(labels, probs, leaves)

    def _only_model(self) -> str:
        try:
            models = self._get(f"{self.base}/v1/models").get("models") or []
        except Refused as refused:
            if refused.status not in (400, 404, 405):
                raise
            raise BadInput(f"{self.base} does not list its models: name one with --model") from None
        if len(models) != 1:
            raise BadInput(
                f"{self.base} serves {', '.join(map(str, models)) or 'no models'}: name one with --model"
            )
        return str(models[0])

    def _complete(self, options: CardOptions) -> Card:
        """Makes the card from the model's metadata; our own server adds ``parameters`` to it, others do not."""
        metadata = self._get(self._path)
        known = metadata.get("parameters") or {}
        entry = self._input(metadata.get("inputs") or [], options)
        batch, *sides = map(int, entry["shape"])
        shape = options.shape or tuple(sides)
        if any(side < 0 for side in shape):
            raise BadInput(
                f'input "{entry["name"]}" of {self.model} has the variable shape {entry["shape"]}: give the shape '
                f"of a row with --shape"
            )
        if entry["datatype"] not in DATATYPES:
            raise BadInput(
                f'input "{entry["name"]}" of {self.model} has datatype {entry["datatype"]}; '
                f"expected one of {', '.join(DATATYPES)}"
            )
        listed = metadata.get("outputs") or []
        outputs = dict(map(_named_role, options.output)) or _roles(listed)
        if not outputs:
            raise BadInput(
                f"{self.model} does not describe its outputs: name them with --output NAME={'|'.join(ROLES)}"
            )
        holds = [((_roles([e]) | outputs).get(e["name"]), e.get("shape") or []) for e in listed]
        columns = [int(shape[-1]) for role, shape in holds if role in _COLUMN_PER_CLASS]
        names = tuple(map(str, known.get("classes") or ()))
        low, high = options.range or (known.get("low"), known.get("high"))
        self._scaled = entry["datatype"] == "UINT8" and (low, high) in ((0, 255), (None, None))
        if self._scaled:
            low, high = 0.0, 1.0
        most = options.max_rows or int(known.get("max_rows") or self._max_batch() or 64)
        return Card(
            model=self.model,
            input_shape=shape,
            classes=options.classes or len(names) or max([0, *columns]),
            version=str((metadata.get("versions") or ["1"])[-1]),
            dtype=entry["datatype"],
            low=low,
            high=high,
            max_rows=most if batch < 0 else min(most, batch),
            tells_probs=any(role in _COLUMN_PER_CLASS for role in outputs.values()),
            **{name: _blur(known, name) for name in BLUR},
            trees=_columns(holds, "leaves"),
            embedding=_columns(holds, "embedding"),
            class_names=names,
            missing=bool(known.get("missing", False)),
            features=tuple(
                Feature(
                    str(feature["name"]),
                    tuple(map(str, feature.get("categories") or ())),
                    *(None if feature.get(end) is None else float(feature[end]) for end in ("low", "high")),
                )
                for feature in known.get("features") or ()
            ),
            input_name=entry["name"],
            outputs=tuple(outputs.items()),
        )

    def _input(self, inputs: list[dict[str, Any]], options: CardOptions) -> dict[str, Any]:
        """Returns the metadata of the input to use, made from the options if the server lists no inputs."""
        chosen = [entry for entry in inputs if options.input in (None, entry["name"])]
        if chosen:
            return chosen[0]
        if inputs:
            raise BadInput(f'no input "{options.input}"; there are {", ".join(entry["name"] for entry in inputs)}')
        if options.input is None or not options.shape:
            raise BadInput(f"{self.model} does not describe its inputs: name one with --input NAME and --shape")
        return {"name": options.input, "datatype": "FP32", "shape": [-1, *options.shape]}

    def _max_batch(self) -> int | None:
        """Returns a request's maximum number of rows if the server reports configurations, as Triton does."""
        if "model_configuration" not in self._extensions:
            return None
        return int(self._get(f"{self._path}/config").get("max_batch_size") or 0)

    def _get(self, url: str) -> dict[str, Any]:
        try:
            return read_json(self._connection.send("GET", url).content)
        except Malformed as error:
            raise Malformed(f"{url}: {error}") from None


def _columns(holds: list[tuple[str | None, list[int]]], wanted: str) -> int:
    """Returns how many columns the output has that holds something; 0 if none does."""
    return max([0, *(int(shape[-1]) for role, shape in holds if role == wanted and len(shape) == 2)])


def _named_role(pair: str) -> tuple[str, str]:
    name, _, role = pair.partition("=")
    if role not in ROLES:
        raise BadInput(f"--output {pair}: expected NAME={'|'.join(ROLES)}")
    return name, role


def _blur(known: Mapping[str, Any], name: str) -> Any:
    """Reads how a server blurs probabilities; None if it does not say so."""
    value = known.get(name)
    whole = name in ("top_k", "digits")
    if value is None or (type(value) in ((int,) if whole else (int, float)) and 0 <= value < math.inf):
        return value
    raise Malformed(f"the model's {name} is {value!r}; expected a {'whole ' * whole}number of at least 0")


def _roles(outputs: list[dict[str, Any]]) -> dict[str, str]:
    """Guesses what each output holds: by name for our own server, by datatype and shape for others."""
    roles: dict[str, str] = {}
    for entry in outputs:
        name, shape = str(entry["name"]), entry.get("shape") or []
        if name in ("leaves", "embedding"):
            roles[name] = name
        elif name == "labels" or (str(entry.get("datatype")).startswith("INT") and len(shape) <= 1):
            roles[name] = "labels"
        elif str(entry.get("datatype")).startswith("FP") and len(shape) == 2:
            roles[name] = "logits" if "logit" in name.lower() else "probs"
    return roles
