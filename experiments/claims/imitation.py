"""A12, imitation: a language model is imitated from its outputs, and what log-probabilities add.

Sources: Kim, Rush, "Sequence-Level Knowledge Distillation", EMNLP 2016; Taori et al., "Stanford Alpaca", 2023, who
imitated a language model by 52,000 texts of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from attacker.language.distillation import Distillation
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from experiments.languages import Victims, about, billed, next_logprobs, reach, speak
from experiments.metrics import next_tokens
from wire import Array
from wire.completions import Completion
from zoo.language.model import LanguageModel
from zoo.training import Training

PUBLISHED = "none in this setting"


@dataclass(frozen=True)
class Imitation(Victims):
    """Students of a language model's texts, with and without log-probabilities, beside public text alone.

    Attributes:
        tokens: Tokens of texts to buy, ascending.
        passes: Passes of a student over them.
        judged: Held-out texts that students are judged by.
    """

    ID: ClassVar[str] = "A12-imitation"
    SAYS: ClassVar[str] = "A language model is imitated from its outputs"
    SOURCE: ClassVar[str] = "Kim and Rush, EMNLP 2016; Alpaca, 2023"

    tokens: tuple[int, ...] = (50_000, 200_000)
    passes: int = 6
    judged: int = 300

    def run(self, lab: Lab) -> Findings:
        """Buys texts over HTTP and trains students; see :class:`~experiments.claims.claim.Claim`."""
        measured: dict[int, dict[str, Any]] = {}
        victims = {}
        for seed in tqdm(lab.seeds, desc=self.ID, unit="victim"):
            pools, model = self.learnt(lab, seed)
            victims[f"victim-{seed}"] = about(model, pools["victim"], pools["evaluation"])
            held_out = pools["evaluation"].x[: self.judged].tolist()
            teacher = next_logprobs(model, held_out)
            server = speak(lab, f"imitation-{seed}", {"victim": (model, "")})
            attack = self._attack(model)
            one: dict[str, Any] = {"victim": {"perplexity": model.perplexity(held_out)}}
            oracle = reach(server, "victim", "thief")
            bought: list[Completion] = []
            public = self._public(pools["pool"].x.tolist(), model)
            for budget in self.tokens:
                rng = np.random.default_rng([seed, budget])
                missing = budget - oracle.spent.completion
                bought += replace(attack, tokens=max(missing, 1)).bought(oracle, rng)
                bill = billed(oracle)
                for learns in ("text", "logprobs"):
                    pupil = replace(attack, learns=learns)
                    student = pupil.taught(bought, model.tokens, seed=seed, label=f"{learns}, {budget}")
                    one[f"{learns}, {budget}"] = {**worth(student, teacher, held_out), **bill}
                own = [Completion(text) for text in public(budget)]
                student = replace(attack, learns="text").taught(own, model.tokens, seed=seed, label="public")
                one[f"public, {budget}"] = worth(student, teacher, held_out)
            measured[seed] = one
        return Findings(
            tuple(self._rows(measured)),
            {},
            victims,
            (
                "Students have the victim's architecture and its tokens, which are public. One purchase, with "
                "log-probabilities, trains both: of the texts alone it would cost the same.",
                "Public text is of the victim's own kind, verses that it was not trained on: the hardest rival.",
            ),
            {"measured": measured},
        )

    def _attack(self, model: LanguageModel) -> Distillation:
        gpt = model.gpt
        training = Training(batch=16, lr=3e-3)
        return Distillation(
            learns="logprobs",
            length=min(96, gpt.context - 1),
            context=gpt.context,
            layers=gpt.layers,
            heads=gpt.heads,
            width=gpt.width,
            epochs=self.passes,
            batch=training.batch,
            lr=training.lr,
        )

    def _public(self, texts: Sequence[str], model: LanguageModel) -> Any:
        ends = np.cumsum([len(model.tokens.encode(text)) + 1 for text in texts])
        return lambda budget: texts[: int(np.searchsorted(ends, budget)) + 1]

    def _rows(self, measured: Mapping[int, Mapping[str, Any]]) -> list[Finding]:
        rows = []
        for budget in self.tokens:
            cost = ", ".join(f"{one[f'text, {budget}']['micro_cents'] / 1e8:.3f}" for one in measured.values())
            for what, unit in (("perplexity", ""), ("agreement", "share"), ("divergence", "nats")):
                null = ", ".join(f"{one[f'public, {budget}'][what]:.3g}" for one in measured.values())
                for learns in ("text", "logprobs"):
                    rows.append(
                        over_seeds(
                            f"{what}, from {'texts' if learns == 'text' else 'texts and 5 log-probabilities'}",
                            f"{budget:,} tokens bought, for {cost}; victims' perplexity "
                            + ", ".join(f"{one['victim']['perplexity']:.1f}" for one in measured.values()),
                            PUBLISHED,
                            {seed: one[f"{learns}, {budget}"][what] for seed, one in measured.items()},
                            baseline=f"as much public text, no API: {null}",
                            unit=unit,
                        )
                    )
        return rows


def worth(student: LanguageModel, teacher: Array, held_out: Sequence[str]) -> dict[str, float]:
    """Returns what a student is worth: its perplexity, and how it agrees with its teacher."""
    found = next_tokens(teacher, next_logprobs(student, held_out))
    return {"perplexity": student.perplexity(held_out), **found}
