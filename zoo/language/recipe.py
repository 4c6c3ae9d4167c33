"""Recipes of language models, and a cache of trained models by the hash of their recipe."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from wire import BadInput
from zoo.cache import once
from zoo.data.pool import Pool
from zoo.language.canaries import Canaries
from zoo.language.encoder_decoder import EncoderDecoder
from zoo.language.gpt import Gpt
from zoo.language.model import LanguageModel, kind_of
from zoo.training import Training

VERSION = 1  # increase when the same recipe gives another model


@dataclass(frozen=True)
class LanguageRecipe:
    """Everything that determines a language model besides its texts and its seed.

    Attributes:
        data: Name of the data set.
        gpt: The network's sizes; those of an encoder-decoder make a translator, which learns pairs.
        training: Training parameters.
        canaries: Secrets that are planted in the texts.
    """

    data: str
    gpt: Gpt = field(default_factory=Gpt)
    training: Training = field(default_factory=Training)
    canaries: Canaries = field(default_factory=Canaries)

    def make(self, pool: Pool, out: Path, *, seed: int, label: str = "") -> LanguageModel:
        """Trains a model on a pool's texts and the canaries among them, and writes its folder.

        Raises:
            BadInput: The rows are no texts, or too few.
        """
        if pool.dtype != "BYTES":
            raise BadInput("a language model learns from texts; these rows are numbers")
        texts = self.canaries.planted(pool.x.tolist(), seed)
        model = kind_of(self.gpt).learnt(texts, self.gpt, self.training, seed=seed, label=label)
        model.save(out, seed=seed, rows=len(pool), canaries=self.canaries.drawn(seed))
        return model

    def kept(self, pool: Pool, cache: Path, *, seed: int, label: str = "") -> Path:
        """Returns the folder of the model in the cache, after training it if necessary; see :meth:`make`."""
        parts = {"version": VERSION, "rows": pool.fingerprint, "seed": seed, **dataclasses.asdict(self)}
        key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
        return once(cache / "models" / key, lambda path: self.make(pool, path, seed=seed, label=label))


PAIRS = Training(epochs=10, batch=32, lr=3e-3)

LANGUAGE: dict[str, LanguageRecipe] = {
    "kjv-lm": LanguageRecipe("kjv", training=Training(epochs=10, batch=8, lr=3e-3)),
    "kjv-en-es": LanguageRecipe("kjv_en_es", EncoderDecoder(), PAIRS, Canaries(())),
    "kjv-modern": LanguageRecipe("kjv_modern", EncoderDecoder(), PAIRS, Canaries(())),
}
"""Built-in recipes of language models, by name."""
