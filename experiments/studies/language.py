"""What a language model has learnt beside n-grams, and what its mark costs: ``python -m experiments language``.

Perplexities are of a token, on texts that no party has; lower is better. The baselines count the same tokens in
the texts, canaries among them, that trained the model. The mark of Kirchenbauer et al. (ICML 2023) is sought in
texts that the model continues from nothing; the perplexity of a marked text is what the bare model says of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from defenses.watermarks.green_list import detect, green
from experiments.header import header
from wire import Array
from zoo.data import Pool, load, roles
from zoo.language.generation import Batch, Text
from zoo.language.model import LanguageModel
from zoo.language.ngrams import Ngrams
from zoo.language.recipe import LANGUAGE
from zoo.language.sampling import Sampling

KEYS = 20  # wrong ones


@dataclass(frozen=True)
class Language:
    """Sizes of the study.

    Attributes:
        recipe: Name of the recipe.
        tokens: Least tokens of the texts in which the mark is sought.
        deltas: What the mark adds to green logits.
        gamma: Share of the vocabulary that is green.
    """

    recipe: str = "kjv-lm"
    tokens: int = 5000
    deltas: tuple[float, ...] = (0.0, 1.0, 2.0)
    gamma: float = 0.25

    def run(
        self,
        seeds: Sequence[int],
        data: Path | None,
        cache: Path,
        write: Callable[[dict[str, Any]], object] = lambda results: None,
    ) -> dict[str, Any]:
        """Trains and measures a model per seed; returns all figures, behind the header, and writes after each."""
        results: dict[str, Any] = {**header(asdict(self), seeds=list(seeds)), "models": {}}
        dataset = load(LANGUAGE[self.recipe].data, data, cache)
        for seed in seeds:
            results["models"][str(seed)] = self._measure(roles.draw(dataset, seed), seed, cache)
            write(results)
        return results

    def _measure(self, held: dict[str, Pool], seed: int, cache: Path) -> dict[str, Any]:
        recipe = LANGUAGE[self.recipe]
        begun = time.process_time(), time.perf_counter()
        model = LanguageModel.load(recipe.kept(held["victim"], cache, seed=seed, label=f"victim {seed}"))
        took = time.process_time() - begun[0], time.perf_counter() - begun[1]
        learnt = recipe.canaries.planted(held["victim"].x.tolist(), seed)
        tested = held["evaluation"].x.tolist()
        counted = [model.tokens.encode(text) for text in learnt]
        asked = [model.tokens.encode(text) for text in tested]
        perplexities = {"model": _perplexity([model.log_likelihoods(text) for text in tested])}
        for n, name in ((1, "unigram"), (2, "bigram"), (3, "trigram")):
            grams = Ngrams(counted, n, len(model.tokens))
            perplexities[name] = _perplexity([grams.log_likelihoods(ids) for ids in asked])
        return {
            "parameters": sum(weight.numel() for weight in model.decoder.parameters()),
            "texts": len(learnt),
            "tokens": sum(len(ids) + 1 for ids in counted),
            "tested_texts": len(tested),
            "tested_tokens": sum(len(ids) + 1 for ids in asked),
            "bytes_a_token": sum(len(text.encode()) for text in tested) / sum(map(len, asked)),
            "training_cpu_seconds": round(took[0], 1),  # about nothing if the model was in the cache
            "training_seconds": round(took[1], 1),
            "perplexity": perplexities,
            "perplexity_of_as_many_learnt_texts": _perplexity(
                [model.log_likelihoods(text) for text in learnt[: len(tested)]]
            ),
            "mark": {str(delta): self._marked(model, delta, seed) for delta in self.deltas},
        }

    def _marked(self, model: LanguageModel, delta: float, seed: int) -> dict[str, Any]:
        """Measures the mark in texts of the model."""
        (key, others), v = keys(seed), len(model.tokens)
        lists = {previous: green(key, previous, v, self.gamma) for previous in range(v)}

        def marked(ids: Sequence[int], logits: Array) -> Array:
            return logits + delta * lists[ids[-1]]

        texts = _written(model, partial(Sampling, model.gpt.context - 1, changes=(marked,)), seed, self.tokens)
        found = detect(texts, key, v, self.gamma)
        wrong = [detect(texts, other, v, self.gamma).z for other in others]
        return {
            **found._asdict(),
            "tokens": sum(map(len, texts)),
            "z_of_wrong_keys": [round(z, 2) for z in wrong],
            "perplexity": _perplexity([model.log_likelihoods(model.tokens.decode(ids)) for ids in texts]),
        }


def keys(seed: int) -> tuple[bytes, list[bytes]]:
    """Returns the key of a seed below 200, and wrong ones."""
    return bytes([seed]) * 32, [bytes([seed, 255 - other]) * 16 for other in range(KEYS)]


def _written(model: LanguageModel, sampling: Any, seed: int, tokens: int) -> list[list[int]]:
    """Returns texts of a model, of at least so many tokens together, without their ends."""
    texts: list[list[int]] = []
    while sum(map(len, texts)) < tokens:
        batch = Batch(model)
        begun = [Text((), sampling(seed=1_000_000 * seed + len(texts) + i)) for i in range(16)]
        for text in begun:
            batch.join(text)
        while len(batch):
            batch.step()
        texts += [[token for token in text.ids[1:] if token] for text in begun]
    return texts


def _perplexity(told: Sequence[Array]) -> float:
    return float(np.exp(-np.concatenate(told).mean()))


def table(results: dict[str, Any]) -> str:
    """Formats results for a person."""
    lines = []
    for seed, found in results["models"].items():
        told = ", ".join(f"{name} {value:.1f}" for name, value in found["perplexity"].items())
        lines += [
            f"seed {seed}: {found['parameters']:,} parameters, {found['tokens']:,} tokens learnt; "
            f"{found['training_cpu_seconds']:g} s of processor, {found['training_seconds']:g} s on the clock",
            f"  perplexity of {found['tested_tokens']:,} tokens of {found['tested_texts']:,} other texts: {told}",
            f"  of as many texts that it learnt: {found['perplexity_of_as_many_learnt_texts']:.1f}",
        ]
        for delta, mark in found["mark"].items():
            wrong = np.array(mark["z_of_wrong_keys"])
            lines.append(
                f"  mark of delta {delta}: z {mark['z']:.1f} (p {mark['p']:.1e}) over {mark['pairs']:,} pairs of "
                f"{mark['tokens']:,} tokens; wrong keys {wrong.mean():.1f} +- {wrong.std(ddof=1):.1f}, at most "
                f"{np.abs(wrong).max():.1f}; perplexity {mark['perplexity']:.1f}"
            )
    return "\n".join(lines)
