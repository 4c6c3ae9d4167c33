"""Tokens a second of a language model: continuous batching beside a plain loop and the bare forward pass.

All continue the same prompts by as many tokens, on one thread, in turn within each round. The plain loop takes
one text after the other, with a key-value cache, and draws by PyTorch's own ``multinomial``. The forward pass
gives one token of each text to the decoder, with half of the context in the cache, and draws nothing. The weights
are random, since they do not change the cost, and no text ends early.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.measure import ratios, spread
from experiments.header import header
from wire import BadInput
from zoo.language.generation import SLOTS, Batch, Text
from zoo.language.gpt import Cache, Decoder, Gpt, Past
from zoo.language.model import LanguageModel
from zoo.language.sampling import Sampling
from zoo.language.tokens import END, Tokens

WAYS = ("continuous batching", "plain loop", "forward pass")


@dataclass(frozen=True)
class Generation:
    """Sizes of the comparison.

    Attributes:
        streams: Numbers of texts at a time.
        prompt: Tokens of a prompt.
        tokens: Tokens by which each is continued.
        rounds: Rounds over everything.
        seed: Seed of weights, prompts and draws.
    """

    streams: tuple[int, ...] = (1, 8, 32)
    prompt: int = 16
    tokens: int = 64
    rounds: int = 7
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.prompt, self.tokens, self.rounds, *self.streams) < 1:
            raise BadInput("streams, prompt, tokens and rounds must be at least 1")
        if self.prompt + self.tokens >= Gpt().context:
            raise BadInput(f"prompt and tokens must be fewer than {Gpt().context} together")

    def run(self) -> dict[str, Any]:
        """Measures; returns all figures, behind the header."""
        head = header({**asdict(self), "slots": SLOTS, "gpt": asdict(Gpt())}, seeds=[self.seed])
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            model = _model(self.seed)
            return {**head, "streams": {str(n): self._measure(model, n) for n in self.streams}}
        finally:
            torch.set_num_threads(threads)

    def _measure(self, model: LanguageModel, streams: int) -> dict[str, Any]:
        prompts = np.random.default_rng(self.seed).integers(1, model.gpt.vocabulary, (streams, self.prompt))
        batch = Batch(model)  # a server keeps one
        runs: dict[str, Callable[[], int]] = {
            "continuous batching": lambda: self._batched(batch, prompts.tolist()),
            "plain loop": lambda: self._plain(model, prompts.tolist()),
            "forward pass": lambda: self._forward(model, streams),
        }
        rates: dict[str, list[float]] = {name: [] for name in WAYS}
        for number in range(self.rounds + 1):
            for name, once in runs.items():
                begun = time.process_time()
                told = once()
                if number:  # the first warms up
                    rates[name].append(told / (time.process_time() - begun))
        found: dict[str, Any] = {name: spread(rates[name])._asdict() for name in WAYS}
        batched, plain, forward = (rates[name] for name in WAYS)
        return {
            "tokens_per_cpu_second": found,
            "of_plain_loop": ratios(batched, plain)._asdict(),
            "of_forward_pass": ratios(batched, forward)._asdict(),
        }

    def _batched(self, batch: Batch, prompts: list[list[int]]) -> int:
        for number, prompt in enumerate(prompts):
            batch.join(Text(prompt, Sampling(self.tokens, seed=self.seed + number, logit_bias={END: -100.0})))
        told = 0
        while len(batch):
            told += sum(len(tokens) for _, tokens in batch.step())
        return told

    @torch.inference_mode()
    def _plain(self, model: LanguageModel, prompts: list[list[int]]) -> int:
        generator = torch.Generator().manual_seed(self.seed)
        cache, told = Cache(model.gpt, 1), 0
        for prompt in prompts:
            new, at = [END, *prompt], 0
            for _ in range(self.tokens):
                past = Past(cache, torch.tensor([0]), torch.arange(at, at + len(new))[None])
                logits = model.decoder(torch.tensor([new]), past)[0, -1]
                logits[END] = -100.0
                at += len(new)
                new = [int(torch.multinomial(logits.softmax(0), 1, generator=generator))]
                told += 1
        return told

    @torch.inference_mode()
    def _forward(self, model: LanguageModel, streams: int) -> int:
        cache, tokens = Cache(model.gpt, streams), torch.ones((streams, 1), dtype=torch.long)
        past = Past(cache, torch.arange(streams), torch.full((streams, 1), model.gpt.context // 2))
        for _ in range(self.tokens):
            model.decoder(tokens, past)
        return streams * self.tokens


def _model(seed: int) -> LanguageModel:
    """Returns a model with random weights and made-up tokens."""
    texts = [" ".join(map(str, row)) for row in np.random.default_rng(seed).integers(0, 2000, (2000, 20))]
    tokens, gpt = Tokens.learnt(texts, Gpt().vocabulary), Gpt()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return LanguageModel(gpt, tokens, Decoder(gpt))


def table(results: dict[str, Any]) -> str:
    """Formats results for a person."""
    lines = [f"{'streams':>7} " + " ".join(f"{name:>20}" for name in WAYS) + "  of plain  of forward"]
    for streams, found in results["streams"].items():
        rates = " ".join(f"{found['tokens_per_cpu_second'][name]['median']:>20,.0f}" for name in WAYS)
        plain, forward = found["of_plain_loop"]["median"], found["of_forward_pass"]["median"]
        lines.append(f"{streams:>7} {rates} {plain:>8.2f}x {forward:>10.2f}x")
    return "\n".join(lines)
