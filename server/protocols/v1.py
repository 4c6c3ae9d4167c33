"""The V1 protocol, for people with curl: ``POST /v1/models/{model}:predict``."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import orjson
from fastapi import APIRouter, Request
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from defenses import Offer
from server.deployment import service as services
from server.deployment.language_stack import SpokenTo
from server.http.body import Body
from server.http.openapi import KEYED, NAMED, Operation
from server.protocols.open_inference_messages import ModelReady
from server.protocols.protocol import JSON, Asked, Headers, Route
from server.protocols.rows import RequestId, expect_numbers, expect_rows, read_json
from wire import Answer, Array, Card, Malformed, Refused
from wire.tensors import DATATYPES, decode, read_values

TAG = "V1 protocol"
ROUTE = "/v1/models/{model}:predict"
MOST_SCANS = 64  # of all images of a request; an image has one, a progressive JPEG some ten
MOST_PIXELS = 32 * 224 * 224  # likewise: such a JPEG takes a millisecond
MOST_PARTS = 64 * MOST_SCANS  # likewise: a PNG's chunks, a JPEG's segments; an image has some ten
MOST_TABLES = 2**12  # bytes of a JPEG's tables in front of its scans; most have some 600

router = APIRouter(tags=[TAG])


def match(parts: Sequence[str]) -> Route | None:
    """Returns the route that a path, split at its slashes, names."""
    match parts:
        case ["", "v1", "models", call] if call.endswith(":predict"):
            return ROUTE, call.removesuffix(":predict"), None
    return None


class _Request(msgspec.Struct, gc=False):
    instances: msgspec.Raw = msgspec.Raw()
    inputs: msgspec.Raw = msgspec.Raw()
    id: RequestId = None


class _Image(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    b64: str


_PNG = b"\x89PNG\r\n\x1a\n"
_SCAN = b"\xff\xda"
# The parts that pixels depend on: of a JPEG, frames, tables, scans, and the marks of JFIF and Adobe.
_NEEDED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", _SCAN}
_NEEDED |= {bytes([0xFF, kind]) for kind in (*range(0xC0, 0xD0), 0xDB, 0xDD, 0xE0, 0xEE)}
_REQUEST = msgspec.json.Decoder(_Request)
_IMAGES = msgspec.json.Decoder(list[_Image])


def read(headers: Mapping[bytes, bytes], body: Body, card: Card, most_json: int) -> Asked:
    """Reads a request: ``{"instances": [...]}``, or the same under ``inputs``.

    An instance is nested lists of numbers, a string where the model takes texts, or ``{"b64": "<PNG or JPEG>"}``.
    """
    request = decode(_REQUEST, read_json(body, most_json), "the request")
    instances = bytes(request.instances) or bytes(request.inputs)
    if not instances.startswith(b"[") or instances[1:].lstrip().startswith(b"]"):
        raise Malformed('"instances" must be a list of at least one row')
    if instances[1:].lstrip().startswith(b"{"):
        x = _images(instances, card)
    elif card.dtype == "BYTES":
        x = read_values(instances, DATATYPES[card.dtype], ())
        expect_rows(x.shape, card.dtype, card)
    else:
        x = _numbers(instances, card)
    return Asked(x, request.id)


def write(answer: Answer, card: Card, options: None) -> tuple[Headers, bytes]:
    """Returns headers and body of an answer."""
    if card.embedding:
        told = {"predictions": [{"embedding": row} for row in answer.embeddings]}  # type: ignore[union-attr]
        return [JSON], orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)
    predictions: list[dict[str, Any]] = []
    for row, label in enumerate(answer.labels.tolist()):
        prediction: dict[str, Any] = {"label": label, "class": card.class_names[label]}
        if answer.probs is not None:
            prediction["probabilities"] = answer.probs[row]  # withheld ones (NaN) become null
        if card.trees:
            prediction["leaves"] = None if answer.leaves is None else answer.leaves[row]
        predictions.append(prediction)
    return [JSON], orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)


def _numbers(instances: bytes, card: Card) -> Array:
    """Reads rows; commas tell how many there are."""
    expect_numbers(instances, card)
    values, size = instances.count(b",") + 1, math.prod(card.input_shape)
    rows = -(-values // size)
    expect_rows((rows, *card.input_shape), card.dtype, card)
    if values % size:
        raise Malformed(f"instances hold {values} values; expected (n, {str(card.input_shape)[1:]}, {size} a row")
    x = read_values(instances, DATATYPES[card.dtype], (rows, *card.input_shape))
    expect_rows(x.shape, card.dtype, card)  # the lists may be flat
    return x


def _images(instances: bytes, card: Card) -> Array:
    if len(card.input_shape) != 3 or card.input_shape[0] not in (1, 3):
        raise Malformed(f"the model takes rows of shape {card.input_shape}, which are not images")
    images = decode(_IMAGES, instances, 'instances as {"b64": "<PNG or JPEG>"}')
    expect_rows((len(images), *card.input_shape), card.dtype, card)
    try:
        files = [base64.b64decode(image.b64, validate=True) for image in images]
    except (binascii.Error, ValueError) as error:
        raise Malformed(f"b64 is not a PNG or JPEG image: {error}") from None
    scans = sum(max(1, file.count(_SCAN)) for file in files)
    most = max(1, min(MOST_SCANS, MOST_PIXELS // math.prod(card.input_shape[1:])))
    if scans > most:
        raise Refused(f"{len(images)} images of {scans} scans in one request; at most {most} are read", status=413)
    return np.stack([_image(_without_metadata(file, MOST_PARTS // len(files)), card) for file in files])


def _image(file: bytes, card: Card) -> Array:
    channels, height, width = card.input_shape
    try:
        image = Image.open(io.BytesIO(file), formats=("PNG", "JPEG"))
        if image.size != (width, height):  # before anything is decompressed
            raise Malformed(f"an image of {image.width}x{image.height} pixels; expected {width}x{height}")
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"), np.float32)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise Malformed(f"b64 is not a PNG or JPEG image: {error}") from None
    low, high = card.low or 0.0, 1.0 if card.high is None else card.high
    scaled = low + pixels.reshape(height, width, channels).transpose(2, 0, 1) * (high - low) / 255
    return scaled.astype(DATATYPES[card.dtype])


def _without_metadata(file: bytes, most_parts: int) -> bytes:
    """Returns a PNG or a JPEG without the parts that its pixels do not depend on: Pillow takes long to read them.

    Raises:
        Refused: It has more parts, or larger tables, than are read (413).
    """
    at = len(_PNG) if file.startswith(_PNG) else 2
    needed = [file[:at]]
    for _ in range(most_parts):
        kind, end = _part(file, at)
        if kind in _NEEDED:
            needed.append(file[at:end])
        at = end
        if at >= len(file):
            break
    else:
        raise Refused(
            f"an image has more than {most_parts} chunks or segments; save it without metadata", status=413
        )
    if not file.startswith(_PNG) and sum(map(len, needed[:-1])) > MOST_TABLES:
        raise Refused(f"a JPEG has tables of more than {MOST_TABLES} bytes", status=413)
    return b"".join(needed)


def _part(file: bytes, at: int) -> tuple[bytes, int]:
    """Returns the kind of a PNG's chunk or a JPEG's segment, and where it ends; all scans count as one segment."""
    if file.startswith(_PNG):
        return file[at + 4 : at + 8], at + 12 + int.from_bytes(file[at : at + 4], "big")
    kind = file[at : at + 2]
    if kind == _SCAN:
        return kind, len(file)
    fill = kind == b"\xff\xff"
    return kind, at + (1 if fill else 2 + int.from_bytes(file[at + 2 : at + 4], "big"))


_PIXEL = (  # a PNG of one
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mP4DwABAQEAG7buVgAAAABJRU5ErkJggg=="
)


class LanguageModelListed(BaseModel):
    """A language model, as OpenAI's clients expect it, and what it offers the account."""

    id: str = Field(examples=["kjv"])
    object: Literal["model"] = "model"
    created: int = Field(default=0, examples=[0])
    owned_by: str = Field(default="mlaas-range", examples=["mlaas-range"])
    offer: Offer

    @staticmethod
    def of(spoken: SpokenTo) -> LanguageModelListed:
        """Describes a model as an account meets it."""
        return LanguageModelListed(id=spoken.name, offer=spoken.offer)


class Models(BaseModel):
    """The models, and the language models among them in OpenAI's form."""

    models: list[str] = Field(examples=[["victim"]])
    object: Literal["list"] = "list"
    data: list[LanguageModelListed] = Field(default=[], description="The language models.")


class PredictRequest(BaseModel):
    """Instances, under either name."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"instances": [[0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.5, 1.0]]},
                {"instances": [{"b64": _PIXEL}]},
            ],
            "anyOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
        }
    )

    id: str | None = Field(
        None, max_length=256, description="Names the request, so that a retry within ten minutes is billed once."
    )
    instances: list[Any] | None = Field(
        None, description='Rows: nested lists of numbers, or images as {"b64": "<PNG or JPEG>"}.'
    )
    inputs: list[Any] | None = Field(None, description="The same.")


class Prediction(BaseModel):
    """The answer about one row."""

    model_config = ConfigDict(populate_by_name=True)

    label: int = Field(examples=[7])
    name: str = Field(alias="class", examples=["Sneaker"])
    probabilities: list[float | None] | None = Field(
        None, description="`null` is withheld.", examples=[[0.25, 0.75]]
    )
    leaves: list[int] | None = Field(
        None, description="The leaf of each tree that the row reaches, if the model discloses leaves."
    )


class Embedded(BaseModel):
    """An encoder's answer about one row."""

    embedding: list[float] = Field(examples=[[0.6, -0.8]])


class PredictResponse(BaseModel):
    """The answers about all rows."""

    predictions: list[Prediction | Embedded]


operations: Sequence[Operation] = [
    Operation(
        ROUTE,
        TAG,
        "Predict",
        'Answers about instances: nested lists of numbers, or images as ``{"b64": "<PNG or JPEG>"}``.',
        PredictRequest,
        PredictResponse,
        answer={"description": "The answer about all instances"},
    )
]


@router.get("/v1/models", responses=KEYED)
async def models(request: Request) -> Models:
    """Lists the models."""
    service = services.of(request)
    caller = await service.enter(request.headers.get("Authorization"))
    offered = [LanguageModelListed.of(spoken) for spoken in service.languages.of_plan(caller.account.plan)]
    return Models(models=[*service.models, *service.languages.names], data=offered)


@router.get("/v1/models/{model}", responses=NAMED)
async def model_status(request: Request, model: str) -> ModelReady | LanguageModelListed:
    """Returns whether a model is ready; of a language model, what OpenAI's clients expect."""
    service = services.of(request)
    caller = await service.enter(request.headers.get("Authorization"))
    if model in service.languages.names:
        return LanguageModelListed.of(service.languages.spoken_to(caller.account, model))
    service.deployed(caller.account, model)
    return ModelReady(name=model, ready=True)
