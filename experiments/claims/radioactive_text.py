"""Radioactivity: a student of marked texts is told by its own texts.

Source: Sander, Fernandez, Durmus, Douze, Furon, "Watermarking Makes Language Models Radioactive", NeurIPS 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from attacker.language.distillation import Distillation
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from experiments.languages import Victims, about, billed, reach, speak
from owner.radioactive_text import MarkedText, RadioactiveText, Radioactivity, new_key
from owner.scheme_key import SchemeKey
from zoo.language.model import LanguageModel


@dataclass(frozen=True)
class TextRadioactivity(Victims):
    """Students of marked and of unmarked texts, and the public's text, before the owner's key and wrong ones.

    Attributes:
        tokens: Tokens of texts that a student learns from.
        passes: Passes of a student over them.
        told: Tokens of a suspect that the owner reads.
        delta: What the mark adds to green logits.
    """

    ID: ClassVar[str] = "radioactivity"
    SAYS: ClassVar[str] = "A student distilled on marked text is told by its own text"
    SOURCE: ClassVar[str] = "Sander et al., NeurIPS 2024"

    tokens: int = 200_000
    passes: int = 6
    told: int = 20_000
    delta: float = 2.0

    def run(self, lab: Lab) -> Findings:
        """Distils and accuses over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        measured: dict[int, dict[str, Any]] = {}
        victims = {}
        for seed in tqdm(lab.seeds, desc=self.ID, unit="victim"):
            pools, model = self.learnt(lab, seed)
            victims[f"victim-{seed}"] = about(model, pools["victim"], pools["evaluation"])
            held = MarkedText(model.tokens, key_of(model, seed))
            path = lab.parties.folder / f"green-{seed}.key"
            path.write_bytes(bytes.fromhex(held.key.seed))
            mark = f'{{ type = "green_list", key = "{path}", delta = {self.delta} }}'
            server = speak(lab, f"radioactivity-{seed}", {"marked": (model, mark), "bare": (model, "")})
            attack = self._attack(model)
            suspects: dict[str, LanguageModel] = {"the bare victim": model}
            costs = {}
            for name in ("marked", "bare"):
                oracle = reach(server, name, f"thief-{name}")
                bought = attack.bought(oracle, np.random.default_rng([seed, 1]))
                suspects[f"student, {name}"] = attack.taught(bought, model.tokens, seed=seed, label=name)
                costs[name] = billed(oracle)
            public = {f"suspect-{at}": (suspect, "") for at, suspect in enumerate(suspects.values())}
            theirs = speak(lab, f"suspects-{seed}", public)
            proof = RadioactiveText(self.told, attack.length)
            held_out = pools["evaluation"].x[:100].tolist()
            measured[seed] = {"costs": costs}
            for at, (name, suspect) in enumerate(suspects.items()):
                oracle = reach(theirs, f"suspect-{at}", f"owner-{at}")
                found = proof.found(oracle, held, np.random.default_rng([seed, 2]))
                measured[seed][name] = {**told(found), "perplexity": suspect.perplexity(held_out)}
            oracle = reach(server, "marked", "owner")
            found = proof.found(oracle, held, np.random.default_rng([seed, 2]))
            measured[seed]["the marked victim"] = told(found)
        return Findings(
            tuple(self._rows(measured)),
            {},
            victims,
            (
                "The suspect's texts begin with nothing, and are drawn at temperature 1. Each pair of a token and "
                "the one before counts once.",
                "Students have the victim's architecture and tokens.",
            ),
            {"measured": measured},
        )

    def _attack(self, model: LanguageModel) -> Distillation:
        gpt = model.gpt
        return Distillation(
            self.tokens,
            "text",
            length=min(96, gpt.context - 1),
            context=gpt.context,
            layers=gpt.layers,
            heads=gpt.heads,
            width=gpt.width,
            epochs=self.passes,
        )

    def _rows(self, measured: Mapping[int, Mapping[str, Any]]) -> list[Finding]:
        rows = []
        for name in ("student, marked", "student, bare", "the bare victim", "the marked victim"):
            of = {seed: one[name] for seed, one in measured.items()}
            wrong = [z for each in of.values() for z in each["wrong"]]
            seen = f"wrong keys: z {np.mean(wrong):.2f} +- {np.std(wrong):.2f}, most {max(map(abs, wrong)):.1f}"
            setting = f"{self.tokens:,} tokens taught, {self.told:,} of the suspect read, delta {self.delta:g}"
            published = "p < 1e-5 with enough marked text" if "marked" in name else "p uniform"
            for what, kind in (("z", "z"), ("log10 p", "log_p")):
                rows.append(
                    over_seeds(
                        f"{name}: {what}",
                        setting,
                        published,
                        {seed: each[kind] for seed, each in of.items()},
                        baseline=seen,
                        unit="",
                    )
                )
        return rows


def key_of(model: LanguageModel, seed: int) -> SchemeKey:
    """Returns the key of a seed's mark."""
    return new_key(model.tokens, 0.25, np.random.default_rng([seed, 7]).bytes(32).hex())


def told(found: Radioactivity) -> dict[str, Any]:
    """Returns what an accusation found, for the results."""
    return {
        "pairs": found.found.pairs,
        "green": found.found.green,
        "z": found.found.z,
        "log_p": float(np.log10(max(found.found.p, 1e-300))),
        "wrong": [each.z for each in found.wrong],
        "read": found.tokens,
    }
