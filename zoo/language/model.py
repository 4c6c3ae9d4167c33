"""A language model: a network and its tokens, trained, saved and read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter
from torch.nn import functional

from wire import Array, BadInput
from wire.files import TEXT, read_bytes
from zoo.folder import CARD, WEIGHTS, digest, naming, packed, read_tensors, read_whole, write
from zoo.language.encoder_decoder import EncoderDecoder
from zoo.language.gpt import Decoder, Gpt
from zoo.language.tokens import END, MOST_BYTES, Tokens
from zoo.tensors import Unallocated, check_module, fill
from zoo.training import Training, train

TOKENS = "tokenizer.json"
SIZES: dict[str, type[Gpt]] = {"gpt": Gpt, "encoder-decoder": EncoderDecoder}
"""The sizes of a network, by its family's name."""


class LanguageCard(BaseModel):
    """The content of a language model's ``card.json``.

    Attributes:
        family: The family's name.
        fields: The network's sizes.
        training: Training parameters.
        sha256: SHA-256 of the weights file, in hexadecimal.
        tokens: SHA-256 of the file of tokens.
        about: Additional information.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Literal["gpt", "encoder-decoder"]
    fields: dict[str, Any]
    training: Training | None
    sha256: str
    tokens: str
    about: dict[str, Any] = {}

    def built(self) -> Gpt:
        """Returns the network's sizes, or raises ValueError."""
        kind = SIZES[self.family]
        expected = {field.name for field in dataclasses.fields(kind)}
        if set(self.fields) != expected:
            raise ValueError(f'"fields" must have {sorted(expected)}, not {sorted(self.fields)}')
        return TypeAdapter(kind).validate_python(self.fields)


class LanguageModel:
    """A network with its tokens, on the CPU; it continues texts.

    Attributes:
        gpt: The network's sizes.
        tokens: Its tokens.
        decoder: The network.
        training: Parameters of its last training; None if it was not trained.
    """

    def __init__(self, gpt: Gpt, tokens: Tokens, decoder: Decoder) -> None:
        """Takes the parts.

        Raises:
            ValueError: There are other tokens than the decoder has.
        """
        if len(tokens) != gpt.vocabulary:
            raise ValueError(f"there are {len(tokens)} tokens, but the decoder has {gpt.vocabulary}")
        self.gpt, self.tokens, self.decoder = gpt, tokens, decoder.eval()
        self.training: Training | None = None

    @classmethod
    def untrained(cls, gpt: Gpt, tokens: Tokens, *, seed: int) -> Self:
        """Returns an untrained model; the same seed makes the same weights."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return cls(gpt, tokens, gpt.network())

    @classmethod
    def learnt(cls, texts: Sequence[str], gpt: Gpt, training: Training, *, seed: int, label: str = "") -> Self:
        """Learns tokens, and then the texts.

        Raises:
            BadInput: The texts are too few for the vocabulary or for one context.
        """
        tokens = Tokens.learnt(cls.parts(texts), gpt.vocabulary)
        if len(tokens) < gpt.vocabulary:
            raise BadInput(f"the texts have {len(tokens)} tokens only; expected {gpt.vocabulary}: give more texts")
        return cls.untrained(gpt, tokens, seed=seed).fit(texts, training, seed=seed, label=label)

    @staticmethod
    def parts(texts: Iterable[str]) -> Iterable[str]:
        """Returns what tokens are learnt from: the texts."""
        return texts

    def fit(self, texts: Sequence[str], training: Training, *, seed: int, label: str = "") -> Self:
        """Continues training on texts, one after the other in windows of the context; returns this model.

        Raises:
            BadInput: They are shorter than one context together.
        """
        stream = torch.tensor([END, *(i for text in texts for i in (*self.tokens.encode(text), END))])
        context = self.gpt.context
        windows = (len(stream) - 1) // context
        if not windows:
            raise BadInput(f"the texts have {len(stream)} tokens together; expected at least {context + 1}")
        x, y = (stream[at : at + windows * context].view(windows, context) for at in (0, 1))
        train(self.decoder, x, y, training, seed=seed, label=label, loss=next_token_loss)
        self.decoder.eval()
        self.training = training
        return self

    @torch.inference_mode()
    def log_likelihoods(self, text: str) -> Array:
        """Returns the log-probability of each token of a text and of its end, ``(n,)``, in nats.

        A text longer than the context is read in parts, each without what stands before it.
        """
        ids = torch.tensor([END, *self.tokens.encode(text), END])
        told = []
        for at in range(0, len(ids) - 1, self.gpt.context):
            part = ids[at : at + self.gpt.context + 1]
            scores = self.decoder(part[None, :-1])[0].log_softmax(1)
            told.append(scores.gather(1, part[1:, None])[:, 0])
        found: Array = torch.cat(told).numpy()
        return found

    @torch.inference_mode()
    def embeddings(self, texts: Sequence[Sequence[int]]) -> Array:
        """Returns the mean of the last hidden states over each text's tokens, of norm 1: ``(n, width)`` float32.

        Args:
            texts: The tokens of each, fewer than the context.
        """
        found = []
        for ids in texts:  # each alone, so that it does not depend on the others
            mean = self.decoder.states(torch.tensor([[END, *ids]]))[0].mean(dim=0)
            found.append(functional.normalize(mean, dim=0).numpy())
        return np.stack(found)

    def perplexity(self, texts: Iterable[str]) -> float:
        """Returns the perplexity of a token of texts, their ends included."""
        return float(np.exp(-np.concatenate([self.log_likelihoods(text) for text in texts]).mean()))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the weights, as in a folder's card."""
        return digest(packed(self.decoder.state_dict()))

    def save(self, folder: Path, **about: Any) -> None:
        """Writes the model to a folder, which is created if necessary, with more about it as JSON values."""
        weights, tokens = packed(self.decoder.state_dict()), self.tokens.written()
        card = LanguageCard(
            family="encoder-decoder" if self.gpt.reads else "gpt",
            fields=dataclasses.asdict(self.gpt),
            training=self.training,
            sha256=digest(weights),
            tokens=digest(tokens),
            about=about,
        )
        write(folder, {WEIGHTS: weights, TOKENS: tokens, CARD: card.model_dump_json(indent=2).encode() + b"\n"})

    @classmethod
    def load(cls, folder: Path) -> LanguageModel:
        """Reads a model from a folder.

        The tensors are compared with the network's before it takes any memory, so a card alone cannot ask for it.

        Raises:
            BadInput: A file is missing, too large or invalid, or does not match the others.
        """
        with naming(folder / CARD):
            card = LanguageCard.model_validate_json(read_bytes(folder / CARD, TEXT))
            gpt = card.built()
        with naming(folder / TOKENS):
            tokens = Tokens.read(read_whole(folder / TOKENS, card.tokens, MOST_BYTES))
        with naming(folder / WEIGHTS, card=folder / CARD):
            tensors = read_tensors(folder / WEIGHTS, card.sha256)
            with Unallocated():
                network = gpt.network()
            check_module(tensors, network)
            model = kind_of(gpt).untrained(gpt, tokens, seed=0)
            fill(model.decoder, tensors)
        model.training = card.training
        return model


def kind_of(gpt: Gpt) -> type[LanguageModel]:
    """Returns the class of a model of these sizes."""
    from zoo.language.translator import Translator  # deferred: it is one of these itself

    return Translator if gpt.reads else LanguageModel


def is_language(folder: Path) -> bool:
    """Returns whether a folder's card is a language model's; False if there is no card that can be read."""
    try:
        card = read_bytes(folder / CARD, TEXT)
        return bool(_Named.model_validate_json(card).family in SIZES)
    except (OSError, ValueError):
        return False


class _Named(BaseModel):
    family: str


def next_token_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Returns the mean cross-entropy of next tokens: logits ``(b, t, v)``, tokens ``(b, t)``."""
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
