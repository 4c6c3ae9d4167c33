"""A model in a folder: what it learnt as safetensors, and a card that says what that is.

A network's folder may also hold the weights that it had at earlier checkpoints of its training.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as read_weights
from safetensors.torch import save as write_weights
from torch.nn import Module

from wire import BadInput, Feature
from zoo.families import ALL, AnyFamily, Learner, name_of
from zoo.families.fitted import Form, Learnt, check
from zoo.families.text import Text, Tfidf
from zoo.network import Network
from zoo.training import Training

CARD, WEIGHTS, CHECKPOINTS = "card.json", "weights.safetensors", "checkpoints.safetensors"


class ModelCard(BaseModel):
    """What stands in ``card.json``.

    Attributes:
        family: Name of the family.
        fields: The family's fields.
        input_shape: Shape of one row.
        class_names: Names of the classes.
        low: Least value of a feature, None if unbounded.
        high: Greatest value of a feature, None if unbounded.
        dtype: The protocol's datatype of the rows.
        missing: Whether a feature may be missing (NaN).
        features: The features of a table, in order; empty where they have no names.
        training: How it was trained; None if it was not, or not by gradients.
        sha256: Hash of the weights' file, in hexadecimal.
        checkpoints: Hash of the file of the weights at earlier checkpoints, None if they were not kept.
        about: Whatever else is worth knowing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: str
    fields: dict[str, Any]
    input_shape: tuple[Annotated[int, Field(ge=1)], ...]
    class_names: tuple[str, ...]
    low: float | None
    high: float | None
    dtype: Literal["FP32", "BYTES"] = "FP32"
    missing: bool = False
    features: tuple[Feature, ...] = ()
    training: Training | None
    sha256: str
    checkpoints: str | None = None
    about: dict[str, Any] = {}

    def built(self) -> AnyFamily:
        """Returns the family with its fields.

        Raises:
            ValueError: There is no such family, or it has no such fields.
        """
        if self.family not in ALL:
            raise ValueError(f'"family" is {self.family!r}; there are {", ".join(ALL)}')
        cls = ALL[self.family]
        expected = {field.name for field in dataclasses.fields(cls)}
        if set(self.fields) != expected:
            raise ValueError(f'"fields" must have {sorted(expected)}, not {sorted(self.fields)}')
        family: AnyFamily = TypeAdapter(cls).validate_python(self.fields)
        return family


def save(model: Network | Text, folder: Path, **about: Any) -> None:
    """Writes a model to a folder, which is made if it is not there.

    Args:
        model: What to write.
        folder: Where to.
        about: Whatever else the card should say; it must go into JSON.
    """
    weights, earlier = _weights(model), _checkpoints(model)
    card = ModelCard(
        family=name_of(model.family),
        fields=dataclasses.asdict(model.family),
        input_shape=model.input_shape,
        class_names=model.class_names,
        low=model.low,
        high=model.high,
        dtype="BYTES" if model.dtype == "BYTES" else "FP32",
        missing=model.missing,
        features=model.features,
        training=model.training,
        sha256=_hash(weights),
        checkpoints=None if earlier is None else _hash(earlier),
        about=about,
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = {WEIGHTS: weights, CHECKPOINTS: earlier, CARD: card.model_dump_json(indent=2).encode() + b"\n"}
    for name, content in files.items():
        if content is None:
            (folder / name).unlink(missing_ok=True)
            continue
        partial = folder / f".{name}.partial"
        partial.write_bytes(content)
        partial.replace(folder / name)


def fingerprint(model: Network | Text) -> str:
    """Returns the SHA-256 of what a model learnt, in hexadecimal: that of its weights' file."""
    return _hash(_weights(model))


def _weights(model: Network | Text) -> bytes:
    learnt = model.learnt if isinstance(model, Text) else model.module.state_dict()
    return write_weights({name: tensor.cpu().contiguous() for name, tensor in learnt.items()})


def _checkpoints(model: Network | Text) -> bytes | None:
    if isinstance(model, Text) or not model.checkpoints:
        return None
    all_ = enumerate(model.checkpoints)
    return write_weights({f"{i}/{name}": tensor.contiguous() for i, one in all_ for name, tensor in one.items()})


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_card(folder: Path) -> ModelCard:
    """Reads the card of a folder.

    Raises:
        BadInput: There is none, or it is broken.
    """
    path = folder / CARD
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; a model's folder holds {CARD} and {WEIGHTS}") from None
    with _naming(path):
        return ModelCard.model_validate_json(content)


def load(folder: Path, device: str | None = None) -> Network | Text:
    """Reads a model from a folder; None chooses CUDA where there is one.

    Raises:
        BadInput: The card or the weights are missing or broken, or do not belong together.
    """
    card = read_card(folder)
    with _naming(folder / CARD):
        family = card.built()
        if len(card.class_names) < 2:
            raise ValueError(f"a classifier needs at least 2 classes, not {len(card.class_names)}")
        texts = isinstance(family, Tfidf)
        if (card.dtype == "BYTES", not card.input_shape) != (texts, texts):
            raise ValueError(f"{card.family} takes no {card.dtype} rows of shape {card.input_shape}")
        if card.features and card.input_shape != (len(card.features),):
            raise ValueError(f"{len(card.features)} features make no rows of shape {card.input_shape}")
        network = None
        if not isinstance(family, Tfidf | Learner):
            network = Network.new(family, card.input_shape, card.class_names, seed=0, device=device)
    with _naming(folder / WEIGHTS):
        learnt = _read((folder / WEIGHTS).read_bytes(), card.sha256)
        if isinstance(family, Tfidf):
            return Text(family, card.class_names, learnt)
        if isinstance(family, Learner):
            module = family.module(learnt, card.input_shape, len(card.class_names))
            network = Network(module, family, card.input_shape, card.class_names, device=device)
        else:
            assert network is not None
            fill(network.module, learnt)
    if card.checkpoints is not None:
        with _naming(folder / CHECKPOINTS):
            network.checkpoints = _sorted(_read((folder / CHECKPOINTS).read_bytes(), card.checkpoints))
            for weights in network.checkpoints:
                check(weights, _forms(network.module))
    network.low, network.high, network.training = card.low, card.high, card.training
    network.missing, network.features = card.missing, card.features
    return network


def fill(module: Module, weights: Learnt) -> None:
    """Puts weights into a network's module, or raises ValueError where they are not its own."""
    check(weights, _forms(module))
    module.load_state_dict(weights)


def _forms(module: Module) -> dict[str, Form]:
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in module.state_dict().items()}


def _sorted(tensors: Learnt) -> list[Learnt]:
    """Returns the weights of each checkpoint; their tensors' names begin with its number and a slash."""
    found = dict[str, Learnt]()
    for name, tensor in tensors.items():
        number, _, of = name.partition("/")
        found.setdefault(number, {})[of] = tensor
    if set(found) != {str(i) for i in range(len(found))}:
        raise ValueError(f"its checkpoints must be 0, 1, ..., not {sorted(found)}")
    return [found[str(i)] for i in range(len(found))]


def read_tensors(content: bytes) -> Learnt:
    """Reads finite tensors from the bytes of a safetensors file, or raises ValueError."""
    try:
        tensors: Learnt = read_weights(content)
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from None
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ValueError(f"tensor {name} is not finite")
    return tensors


def _read(content: bytes, sha256: str) -> Learnt:
    found = _hash(content)
    if found != sha256:
        raise ValueError(f"its SHA-256 is {found}, but the card says {sha256}")
    return read_tensors(content)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Says in which file a fault is."""
    try:
        yield
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    except ValidationError as error:
        raise BadInput(f"{path}: {_first(error)}") from None
    except ValueError as error:
        raise BadInput(f"{path}: {error}") from None


def _first(error: ValidationError) -> str:
    fault = error.errors()[0]
    return f'"{".".join(map(str, fault["loc"]))}": {fault["msg"]}' if fault["loc"] else fault["msg"]
