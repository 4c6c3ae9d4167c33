"""A12, the last layer: the width of a language model and its output matrix, through an API of completions.

Source: Carlini et al., "Stealing Part of a Production Language Model", ICML 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from attacker.language.output_layer import Output, OutputLayer
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from experiments.languages import Victims, about, billed, reach, speak
from experiments.metrics import affine_error
from wire import Array
from zoo.language.gpt import Gpt
from zoo.language.model import LanguageModel
from zoo.language.tokens import Tokens

PUBLISHED = "exact for OpenAI's ada (1,024) and babbage (2,048)"


@dataclass(frozen=True)
class A12(Victims):
    """The last layer of a language model over HTTP: by log-probabilities, and without them.

    Attributes:
        prompts: Prompts to ask about.
        tokens: Tokens to ask about.
        all_prompts: Prompts to ask about for the whole matrix, of all tokens; 0 leaves it out.
        label_sizes: Sizes of the untrained victim that tells its text alone; none leaves it out.
        label_prompts: Prompts, and tokens, to ask it about.
    """

    ID: ClassVar[str] = "A12"
    SAYS: ClassVar[str] = "A language model's width and output matrix are read off its logits by SVD"
    SOURCE: ClassVar[str] = "Carlini et al., ICML 2024"

    prompts: int = 160
    tokens: int = 160
    all_prompts: int = 200
    label_sizes: tuple[int, ...] = (2048, 128, 2, 2, 24)
    label_prompts: int = 40

    def run(self, lab: Lab) -> Findings:
        """Steals each seed's last layer; see :class:`~experiments.claims.claim.Claim`."""
        attack = OutputLayer(self.prompts, self.tokens)
        measured: dict[int, dict[str, Any]] = {}
        victims: dict[str, Any] = {}
        for seed in tqdm(lab.seeds, desc=self.ID, unit="victim"):
            pools, model = self.learnt(lab, seed)
            victims[f"victim-{seed}"] = about(model, pools["victim"], pools["evaluation"])
            bare = {"victim": (model, "")}
            if self.label_sizes:
                other = LanguageModel.untrained(Gpt(*self.label_sizes), model.tokens, seed=seed)
                bare["label"] = (other, "")
            server = speak(lab, f"a12-{seed}", bare)
            one: dict[str, Any] = {}
            for name, chat, asked in self._thefts(attack):
                oracle = reach(server, "label" if asked.answers == "label" else "victim", name, chat=chat)
                found = asked.steal(oracle, np.random.default_rng([seed, 1]))
                of = other if asked.answers == "label" else model
                one[name] = {
                    **worth(found, of.tokens, shown(of), of.gpt.width),
                    **billed(oracle),
                }
                if name == "top 20":
                    one["null"] = self._null(attack, found, shown(model), seed, of.tokens)
            measured[seed] = one
        return Findings(
            tuple(row for name in next(iter(measured.values())) for row in self._rows(name, measured)),
            {},
            victims,
            (
                "The victim's last normalisation centres hidden states, so the rank is the width less one; the "
                "attacker knows this kind of decoder. A part of the output matrix that no logit shows is left out "
                "of the comparison.",
                "Prompts are random letters. The attacker is not told how many tokens there are.",
            ),
            {"measured": measured},
        )

    def _thefts(self, attack: OutputLayer) -> list[tuple[str, bool, OutputLayer]]:
        thefts = [("top 20", True, attack), ("top 5", False, attack)]
        if self.all_prompts:
            thefts.append(("top 20, all tokens", True, replace(attack, prompts=self.all_prompts, tokens=0)))
        if self.label_sizes:
            few = replace(attack, prompts=self.label_prompts, tokens=self.label_prompts)
            thefts.append(("text alone", False, replace(few, answers="label")))
        return thefts

    def _null(
        self, attack: OutputLayer, found: Output, matrix: Array, seed: int, tokens: Tokens
    ) -> dict[str, Any]:
        """Returns what the method says of a matrix without rank, and how well a random matrix is fitted."""
        rng = np.random.default_rng([seed, 2])
        noise = rng.standard_normal((self.prompts, len(found.names) + 1))
        rank = attack.taken_apart(found.names, [noise]).rank
        random = replace(found, matrix=rng.standard_normal((len(found.names), found.rank or 1)))
        return {"rank": rank, "error": compared(random, tokens, matrix)}

    def _rows(self, name: str, measured: Mapping[int, Mapping[str, Any]]) -> list[Finding]:
        of = {seed: one[name] for seed, one in measured.items()}
        if name == "null":
            return [
                over_seeds(
                    "null: rank of random logits",
                    "random logits of the same size",
                    "none",
                    {seed: each["rank"] or 0 for seed, each in of.items()},
                    baseline="0: no rank is found",
                    unit="",
                )
            ]
        small = name == "text alone"
        sizes = self.label_sizes if small else self.sizes or tuple(vars(Gpt()).values())
        setting = f"{'untrained' if small else 'kjv-lm'}, width {sizes[4]}, {sizes[0]} tokens; {name}"
        null = ", ".join(f"{one['null']['error']:.2f}" for one in measured.values())
        unknown = "a random matrix: " + (null if name in ("top 20", "top 5") else "near 1")
        return [
            over_seeds(
                "width found",
                setting,
                PUBLISHED,
                {seed: each["width"] for seed, each in of.items()},
                baseline="none without the API",
                unit="",
            ),
            over_seeds(
                "error of the matrix / deviation of its entries",
                setting,
                "none in these units",
                {seed: each["error"] for seed, each in of.items()},
                baseline=unknown,
                unit="",
            ),
            over_seeds(
                "one-token completions",
                setting,
                "none at this width",
                {seed: each["completions"] for seed, each in of.items()},
                baseline=f"micro-cents: {', '.join(str(each['micro_cents']) for each in of.values())}",
                unit="",
            ),
        ]


def shown(model: LanguageModel) -> Array:
    """Returns the part of the output matrix that logits show, ``(v, h)``.

    A state leaves the last normalisation centred and multiplied by the gain g, so W g is only seen off its mean.
    """
    gain = model.decoder.ln_f.weight.detach().double().numpy()
    seen: Array = model.decoder.wte.weight.detach().double().numpy() * gain
    seen -= seen.mean(axis=1, keepdims=True)
    return seen


def compared(found: Output, tokens: Tokens, matrix: Array) -> float | None:
    """Returns the error of a matrix; None without one. Tokens that are known by a text of several are left out."""
    if found.matrix is None:
        return None
    rows = {tokens.name(token): token for token in range(len(tokens))}
    known = [at for at, name in enumerate(found.names) if name in rows]
    return affine_error(found.matrix[known], matrix[[rows[found.names[at]] for at in known]])


def worth(found: Output, tokens: Tokens, matrix: Array, width: int) -> dict[str, Any]:
    """Returns what a theft is worth: the width, and the error of the matrix; None where none was found."""
    return {
        "width": found.width,
        "exact": found.width == width,
        "error": compared(found, tokens, matrix),
        "tokens": len(found.names),
        "singular": [float(f"{value:.4g}") for value in found.singular],
    }
