"""Saves and loads a model's folder: its tensors as safetensors, and a card that describes the model.

A network's folder may also hold its weights at earlier checkpoints of its training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import safetensors.torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wire import BadInput, Card, Feature
from wire.files import TEXT, read_bytes
from zoo.families import FAMILIES, Family, check_rows, name_of
from zoo.model import Model
from zoo.tensors import Tensors, check_module, read
from zoo.training import Training

CARD, WEIGHTS, CHECKPOINTS = "card.json", "weights.safetensors", "checkpoints.safetensors"
MOST_VALUES = 2**22  # of one row: a colour image of 1182 by 1182, 16 MiB of floats
MOST_AXES = 8
MOST_WEIGHTS = 8 * 2**30  # bytes of a file of weights, or of checkpoints


class ModelCard(BaseModel):
    """The content of ``card.json``.

    Attributes:
        family: Name of the family.
        fields: The family's fields.
        input_shape: Shape of one row.
        class_names: Names of the classes; none of an encoder.
        low: Least value of a feature, None if unbounded.
        high: Greatest value of a feature, None if unbounded.
        dtype: The protocol's datatype of the rows.
        missing: Whether a feature may be missing (NaN).
        features: The features of a table, in order; empty if they have no names.
        embedding: Length of an encoder's embeddings; 0 for a classifier.
        training: Training parameters; None if the model was not trained by gradient descent.
        sha256: SHA-256 of the weights file, in hexadecimal.
        checkpoints: SHA-256 of the checkpoints file; None if there are no checkpoints.
        about: Additional information.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str
    fields: dict[str, Any]
    input_shape: Annotated[tuple[Annotated[int, Field(ge=1, le=MOST_VALUES)], ...], Field(max_length=MOST_AXES)]
    class_names: tuple[str, ...]
    low: float | None
    high: float | None
    dtype: Literal["FP32", "BYTES"] = "FP32"
    missing: bool = False
    features: tuple[Feature, ...] = ()
    embedding: Annotated[int, Field(ge=0, le=MOST_VALUES)] = 0
    training: Training | None
    sha256: str
    checkpoints: str | None = None
    about: dict[str, Any] = {}

    def takes(self) -> Card:
        """Returns the model's :class:`Card`, without a name.

        Raises:
            ValueError: There are fewer than two classes, a row is too large, or the features do not match it.
        """
        if math.prod(self.input_shape) > MOST_VALUES:
            raise ValueError(f"a row has at most {MOST_VALUES:,} values, not {self.input_shape}")
        if self.embedding and self.class_names:
            raise ValueError(f"an encoder has no classes, but the card names {len(self.class_names)}")
        if len(self.class_names) < 2 and not self.embedding:
            raise ValueError(f"a classifier needs at least 2 classes, not {len(self.class_names)}")
        if self.features and self.input_shape != (len(self.features),):
            raise ValueError(f"the card has {len(self.features)} features, but rows of shape {self.input_shape}")
        return Card(
            "",
            self.input_shape,
            len(self.class_names),
            dtype=self.dtype,
            low=self.low,
            high=self.high,
            class_names=self.class_names,
            missing=self.missing,
            features=self.features,
            embedding=self.embedding,
            tells_probs=not self.embedding,
        )

    def built(self) -> Family:
        """Returns the family with its fields.

        Raises:
            ValueError: There is no such family, or it has other fields.
        """
        return family_of(self.family, self.fields)


def family_of(name: str, fields: Mapping[str, Any]) -> Family:
    """Returns a family with its fields, as a card names them.

    Raises:
        ValueError: There is no such family, or it has other fields.
    """
    if name not in FAMILIES:
        raise ValueError(f'"family" is {name!r}; expected one of {", ".join(FAMILIES)}')
    cls = FAMILIES[name]
    expected = {field.name for field in dataclasses.fields(cls)}
    if set(fields) != expected:
        raise ValueError(f'"fields" must have {sorted(expected)}, not {sorted(fields)}')
    family: Family = TypeAdapter(cls).validate_python(fields)
    return family


def save(model: Model, folder: Path, **about: Any) -> None:
    """Writes a model to a folder, which is created if necessary.

    Args:
        model: The model.
        folder: The folder.
        about: Additional information for the card, as JSON values.
    """
    weights, earlier = _weights(model), _checkpoints(model)
    takes = model.card()
    card = ModelCard(
        family=name_of(model.family),
        fields=dataclasses.asdict(model.family),
        input_shape=takes.input_shape,
        class_names=takes.class_names,
        low=takes.low,
        high=takes.high,
        dtype="BYTES" if takes.dtype == "BYTES" else "FP32",
        missing=takes.missing,
        features=takes.features,
        embedding=takes.embedding,
        training=model.training,
        sha256=digest(weights),
        checkpoints=None if earlier is None else digest(earlier),
        about=about,
    )
    write(folder, {WEIGHTS: weights, CHECKPOINTS: earlier, CARD: card.model_dump_json(indent=2).encode() + b"\n"})


def write(folder: Path, files: Mapping[str, bytes | None]) -> None:
    """Writes files to a folder, which is created if necessary, each at once; those without content are removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if content is None:
            (folder / name).unlink(missing_ok=True)
            continue
        partial = folder / f".{name}.partial"
        partial.write_bytes(content)
        partial.replace(folder / name)


def fingerprint(model: Model) -> str:
    """Returns the SHA-256 of a model's weights file, in hexadecimal."""
    return digest(_weights(model))


def _weights(model: Model) -> bytes:
    return packed(model.tensors())


def _checkpoints(model: Model) -> bytes | None:
    if not model.checkpoints:
        return None
    named = {f"{i}/{name}": t for i, one in enumerate(model.checkpoints) for name, t in one.items()}
    return packed(named)


def packed(tensors: Tensors) -> bytes:
    """Returns the content of a file of tensors."""
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in tensors.items()})


def digest(content: bytes) -> str:
    """Returns the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def read_card(folder: Path) -> ModelCard:
    """Reads the card of a folder.

    Raises:
        BadInput: The card is missing or invalid.
    """
    path = folder / CARD
    try:
        content = read_bytes(path, TEXT)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; a model folder has {CARD} and {WEIGHTS}") from None
    with naming(path):
        return ModelCard.model_validate_json(content)


def load(folder: Path, device: str | None = None) -> Model:
    """Reads a model from a folder; without a device, it is put on CUDA if available.

    Raises:
        BadInput: The card or the weights are missing or invalid, or do not match each other.
    """
    card = read_card(folder)
    with naming(folder / CARD):
        family, takes = card.built(), card.takes()
        check_rows(family, takes)
    with naming(folder / WEIGHTS, card=folder / CARD):
        model = family.restore(takes, read_tensors(folder / WEIGHTS, card.sha256), device=device)
        model.training = card.training
    if card.checkpoints is not None:
        with naming(folder / CHECKPOINTS):
            model.checkpoints = _sorted(read_tensors(folder / CHECKPOINTS, card.checkpoints))
            for tensors in model.checkpoints:
                check_module(tensors, model.network().module)
    return model


def read_tensors(path: Path, sha256: str) -> Tensors:
    """Reads a file of tensors, as a card describes it, or raises ValueError."""
    return read(read_whole(path, sha256, MOST_WEIGHTS))


def read_whole(path: Path, sha256: str, most: int) -> bytes:
    """Reads a file of at most ``most`` bytes with the hash that a card has, or raises ValueError."""
    content = read_bytes(path, most)
    found = digest(content)
    if found != sha256:
        raise ValueError(f"the file's SHA-256 is {found}, but the card has {sha256}")
    return content


def _sorted(tensors: Tensors) -> list[Tensors]:
    """Returns the tensors of each checkpoint; a tensor's name begins with the checkpoint's number and a slash."""
    found = dict[str, Tensors]()
    for name, tensor in tensors.items():
        number, _, of = name.partition("/")
        found.setdefault(number, {})[of] = tensor
    if set(found) != {str(i) for i in range(len(found))}:
        raise ValueError(f"the checkpoints must be 0, 1, ..., not {sorted(found)}")
    return [found[str(i)] for i in range(len(found))]


@contextmanager
def naming(path: Path, card: Path | None = None) -> Iterator[None]:
    """Prefixes a block's errors with the file's path, or with the card's if the family rejects the model."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        raise BadInput(f"{path}: {_first(error)}") from None
    except BadInput as error:
        raise BadInput(f"{card or path}: {error}") from None
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None


def _first(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f'"{".".join(map(str, fault["loc"]))}": {fault["msg"]}' if fault["loc"] else fault["msg"]
