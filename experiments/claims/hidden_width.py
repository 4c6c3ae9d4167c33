"""A12, defences: what layers of logits leave of a theft of the last layer, and what they cost an honest user.

Source: Carlini et al., "Stealing Part of a Production Language Model", ICML 2024, section 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from attacker.asking import NothingAnswered
from attacker.language.exposure import log_likelihoods
from attacker.language.output_layer import OutputLayer
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.claims.output_layer import shown, worth
from experiments.lab import Lab
from experiments.languages import Victims, about, billed, reach, speak
from experiments.parties import Server
from wire import Refused
from zoo.language.model import LanguageModel

LAYERS = {
    "none": "",
    "top_logprobs 5": '{ type = "top_logprobs", most = 5 }',
    "top_logprobs 0": '{ type = "top_logprobs", most = 0 }',
    **{f"rounding {n}": f'{{ type = "logprob_rounding", digits = {n} }}' for n in (4, 3, 2, 1)},
    **{f"noise {sigma:g}": f'{{ type = "logit_noise", sigma = {sigma} }}' for sigma in (0.001, 0.01, 0.1, 0.5)},
    "bias_xor_logprobs": '{ type = "bias_xor_logprobs" }',
    "no_logprobs": '{ type = "no_logprobs" }',
}


@dataclass(frozen=True)
class HiddenWidth(Victims):
    """The theft of a last layer through each defence of logits, beside the perplexity that users get.

    Attributes:
        prompts: Prompts to ask about.
        tokens: Tokens to ask about.
        judged: Held-out texts whose perplexity users are told.
    """

    ID: ClassVar[str] = "A12-defences"
    SAYS: ClassVar[str] = "Noise and refusals of a bias with log-probabilities hide a language model's width"
    SOURCE: ClassVar[str] = "Carlini et al., ICML 2024, section 8"

    prompts: int = 160
    tokens: int = 160
    judged: int = 60

    def run(self, lab: Lab) -> Findings:
        """Attacks each seed's victim through each layer; see :class:`~experiments.claims.claim.Claim`."""
        measured: dict[int, dict[str, Any]] = {}
        victims = {}
        for seed in tqdm(lab.seeds, desc=self.ID, unit="victim"):
            pools, model = self.learnt(lab, seed)
            victims[f"victim-{seed}"] = about(model, pools["victim"], pools["evaluation"])
            short = [text for text in pools["evaluation"].x if len(model.tokens.encode(text)) < model.gpt.context]
            held_out = short[: self.judged]
            named = {name.replace(" ", "-").replace(".", "-"): layers for name, layers in LAYERS.items()}
            server = speak(lab, f"width-{seed}", {name: (model, layers) for name, layers in named.items()})
            measured[seed] = {
                kind: {**self._theft(server, name, model, seed), **self._use(server, name, held_out)}
                for kind, name in zip(LAYERS, named, strict=True)
            }
        return Findings(
            tuple(row for kind in LAYERS for row in self._rows(kind, measured)),
            {},
            victims,
            (
                "The attack is the one of A12, which adapts to the log-probabilities that are told. Where these "
                "are refused, it stops; A12 measures the bisection that is left.",
                "The perplexity is that of held-out texts by the API's own echo, without their first tokens. "
                "Caps, rounding and refusals leave what is written as it is.",
            ),
            {"measured": measured},
        )

    def _theft(self, server: Server, name: str, model: LanguageModel, seed: int) -> dict[str, Any]:
        """Returns what the attack finds through a layer: by chats, or one token at a time by completions."""
        oracle = reach(server, name, f"thief-{name}", chat=not name.endswith("logprobs-0"))
        attack = OutputLayer(self.prompts, self.tokens)
        try:
            found = attack.steal(oracle, np.random.default_rng([seed, 1]))
        except (NothingAnswered, Refused) as refused:
            return {"width": None, "error": None, "refused": str(refused), **billed(oracle)}
        return {**worth(found, model.tokens, shown(model), model.gpt.width), **billed(oracle)}

    def _use(self, server: Server, name: str, held_out: Sequence[str]) -> dict[str, Any]:
        """Returns the perplexity of texts as an honest account is told it; None where it is not told."""
        oracle = reach(server, name, f"honest-{name}")
        values = log_likelihoods(oracle, held_out)
        places = oracle.spent.prompt - len(values)
        return {"perplexity": float(np.exp(-values.sum() / places)) if len(values) else None}

    def _rows(self, kind: str, measured: Mapping[int, Mapping[str, Any]]) -> list[Finding]:
        of = {seed: one[kind] for seed, one in measured.items()}
        bare = [one["none"]["perplexity"] for one in measured.values()]
        told = [each["perplexity"] for each in of.values()]
        ratios = [value / other for value, other in zip(told, bare, strict=True) if value is not None]
        cost = f"perplexity x {np.mean(ratios):.4f}" if ratios else "perplexity not told, text as it was"
        widths = {each["width"] for each in of.values()}
        asked = f"{int(np.median([each['completions'] for each in of.values()])):,} completions; {cost}"
        return [
            over_seeds(
                what,
                f"{kind}: {asked}; widths found: {', '.join(str(each['width']) for each in of.values())}",
                "noise and refusals hide it" if kind.startswith(("noise", "bias", "no_")) else "none",
                {seed: each[key] for seed, each in of.items()},
                baseline="a random matrix: error near 1" if key == "error" else "none without the API",
                unit="",
            )
            for what, key in (("width found", "width"), ("error of the matrix", "error"))
            if key == "width" or widths != {None}
        ]
