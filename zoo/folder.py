"""A network in a folder: weights as safetensors, and a card that says what they are."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as read_weights
from safetensors.torch import save as write_weights

from wire import BadInput
from zoo.families import FAMILIES, Family, name_of
from zoo.network import Network
from zoo.training import Training

CARD, WEIGHTS = "card.json", "weights.safetensors"


class ModelCard(BaseModel):
    """What stands in ``card.json``.

    Attributes:
        family: Name of the family.
        fields: The family's fields.
        input_shape: Shape of one row.
        class_names: Names of the classes.
        low: Least value of a feature, None if unbounded.
        high: Greatest value of a feature, None if unbounded.
        training: How it was trained.
        sha256: Hash of the weights' file, in hexadecimal.
        about: Whatever else is worth knowing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str
    fields: dict[str, Any]
    input_shape: tuple[Annotated[int, Field(ge=1)], ...]
    class_names: tuple[str, ...]
    low: float | None
    high: float | None
    training: Training | None
    sha256: str
    about: dict[str, Any] = {}

    def built(self) -> Family:
        """Returns the family with its fields.

        Raises:
            ValueError: There is no such family, or it has no such fields.
        """
        if self.family not in FAMILIES:
            raise ValueError(f'"family" is {self.family!r}; there are {", ".join(FAMILIES)}')
        cls = FAMILIES[self.family]
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(self.fields) != expected:
            raise ValueError(f'"fields" must have {sorted(expected)}, not {sorted(self.fields)}')
        family: Family = TypeAdapter(cls).validate_python(self.fields)
        return family


def save(network: Network, folder: Path, **about: Any) -> None:
    """Writes a network to a folder, which is made if it is not there.

    Args:
        network: What to write.
        folder: Where to.
        about: Whatever else the card should say; it must go into JSON.
    """
    weights = write_weights({name: tensor.contiguous() for name, tensor in network.module.state_dict().items()})
    card = ModelCard(
        family=name_of(network.family),
        fields=dataclasses.asdict(network.family),
        input_shape=network.input_shape,
        class_names=network.class_names,
        low=network.low,
        high=network.high,
        training=network.training,
        sha256=hashlib.sha256(weights).hexdigest(),
        about=about,
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in ((WEIGHTS, weights), (CARD, card.model_dump_json(indent=2).encode() + b"\n")):
        partial = folder / f".{name}.partial"
        partial.write_bytes(content)
        partial.replace(folder / name)


def read_card(folder: Path) -> ModelCard:
    """Reads the card of a folder.

    Raises:
        BadInput: There is none, or it is broken.
    """
    path = folder / CARD
    try:
        return ModelCard.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; a model's folder holds {CARD} and {WEIGHTS}") from None
    except ValidationError as error:
        raise BadInput(f"{path}: {_first(error)}") from None


def load(folder: Path, device: str | None = None) -> Network:
    """Reads a network from a folder; None chooses CUDA where there is one.

    Raises:
        BadInput: The card or the weights are missing or broken, or do not belong together.
    """
    card = read_card(folder)
    try:
        family = card.built()
        network = Network.new(family, card.input_shape, card.class_names, seed=0, device=device)
    except ValidationError as error:
        raise BadInput(f"{folder / CARD}: {_first(error)}") from None
    except ValueError as error:
        raise BadInput(f"{folder / CARD}: {error}") from None
    network.low, network.high, network.training = card.low, card.high, card.training
    _load_weights(network, folder / WEIGHTS, card.sha256)
    return network


def _load_weights(network: Network, path: Path, sha256: str) -> None:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BadInput(f"{path}: its SHA-256 is {found}, but the card says {sha256}")
    try:
        weights = read_weights(content)
    except SafetensorError as error:
        raise BadInput(f"{path}: not a safetensors file: {error}") from None
    wanted = network.module.state_dict()
    if weights.keys() != wanted.keys():
        missing, extra = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
        raise BadInput(f"{path}: tensors missing: {missing}, tensors that the card's family lacks: {extra}")
    for name, tensor in weights.items():
        if (tensor.shape, tensor.dtype) != (wanted[name].shape, wanted[name].dtype):
            raise BadInput(
                f"{path}: tensor {name} is {tuple(tensor.shape)} {tensor.dtype}, but the card's family takes "
                f"{tuple(wanted[name].shape)} {wanted[name].dtype}"
            )
        if not tensor.isfinite().all():
            raise BadInput(f"{path}: tensor {name} is not finite")
    network.module.load_state_dict(weights)


def _first(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f'"{".".join(map(str, fault["loc"]))}": {fault["msg"]}' if fault["loc"] else fault["msg"]
