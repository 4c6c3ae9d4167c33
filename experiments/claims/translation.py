"""Imitation of a translator: of languages (Wallace et al.), and of styles of text (A11).

Sources: Wallace, Stern, Song, "Imitation Attacks and Defenses for Black-box Machine Translation Systems", EMNLP
2020;
Szyller, Duddu, Gröndahl, Asokan, "Good Artists Copy, Great Artists Steal: Model Extraction Attacks Against Image
Translation Generative Adversarial Networks", 2021.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from sacrebleu import corpus_bleu
from tqdm import tqdm

from attacker.language.flips import Flips
from attacker.language.imitation import Imitation
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from experiments.languages import Victims, about, billed, reach, speak
from wire.completions import Completion, CompletionOracle, Decoding
from zoo.data import Pool
from zoo.language.encoder_decoder import EncoderDecoder
from zoo.language.generation import likeliest
from zoo.language.model import LanguageModel
from zoo.language.translator import Translator, paired, sides

Texts = Sequence[str]
MOST = 10_000  # characters: texts are chosen by their tokens


@dataclass(frozen=True)
class Translation(Victims):
    """Imitations of a translator over HTTP, beside models that never met it, and texts that disturb both.

    Attributes:
        recipe: Name of the recipe.
        sentences: Texts to have translated, ascending.
        passes: Passes of an imitation over the most texts; with fewer, it takes as many steps.
        judged: Held-out texts that imitations are judged by.
        flipped: How many of these are flipped; 0 leaves it out.
        flips: Tokens that are flipped in each.
    """

    ID: ClassVar[str] = "translation"
    SAYS: ClassVar[str] = (
        "A translator is imitated from its answers, and texts that disturb the imitation disturb it"
    )
    SOURCE: ClassVar[str] = "Wallace et al., EMNLP 2020"
    PUBLISHED: ClassVar[str] = "imitations within 0.6 BLEU of production systems"

    recipe: str = "kjv-en-es"
    sentences: tuple[int, ...] = (1000, 5000)
    passes: int = 10
    judged: int = 300
    flipped: int = 100
    flips: int = 2

    def run(self, lab: Lab) -> Findings:
        """Steals each seed's translator over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        measured: dict[int, dict[str, Any]] = {}
        victims = {}
        for seed in tqdm(lab.seeds, desc=self.ID, unit="victim"):
            pools, model = self.learnt(lab, seed)
            attack = self._attack(model)
            victims[f"victim-{seed}"] = about(model, pools["victim"], pools["evaluation"])
            asked, truth = split(self._short(pools["evaluation"], model, attack)[: self.judged])
            said = likeliest(model, asked, attack.length)
            one: dict[str, Any] = {
                "victim": {"reference": bleu(said, truth)},
                "copy of the text": {"victim": bleu(asked, said), "reference": bleu(asked, truth)},
            }
            server = speak(lab, f"{self.ID}-{seed}", {"victim": (model, "")})
            oracle = reach(server, "victim", "thief")
            own = [pair for role in ("pool", "shadow") for pair in self._short(pools[role], model, attack)]
            bought: list[str] = []
            students: dict[str, Translator] = {}
            for before, n in zip((0, *self.sentences), self.sentences, strict=False):
                bought += replace(attack, sentences=n).bought(oracle, split(own[before:n])[0])
                lessons = {"imitation": bought, "own pairs": own[:n]}
                if not before:
                    lessons["shuffled answers"] = _shuffled(bought, seed)
                pupil = replace(attack, epochs=self.passes * self.sentences[-1] // n)
                for name, pairs in lessons.items():
                    student = students[name] = pupil.taught(pairs, seed=seed, label=f"{name}, {n}")
                    one[f"{name}, {n}"] = worth(likeliest(student, asked, attack.length), said, truth)
                one[f"imitation, {n}"] |= {**billed(oracle), "texts": min(n, len(own)), "pairs": len(bought)}
            if self.flipped:
                few = asked[: self.flipped], said[: self.flipped]
                one["flips"] = self._flips(students, oracle, *few, length=attack.length, seed=seed)
            measured[seed] = one
        return Findings(
            tuple(self._rows(measured)),
            {},
            victims,
            (
                "Imitations have the victim's sizes, and tokens of their own. They are sent verses that trained "
                "no one, and are judged on others; all leave half of the context for their translation.",
                "Own pairs are the same verses with their true translations: the hardest rival, since a thief of "
                "a translator is to have none. Shuffled answers are those bought, each beside another's text.",
            ),
            {"measured": measured},
        )

    def _attack(self, model: LanguageModel) -> Imitation:
        sizes = model.gpt
        assert isinstance(sizes, EncoderDecoder) and model.training is not None
        return Imitation(
            longest=MOST,
            length=sizes.context // 2,
            vocabulary=sizes.vocabulary,
            context=sizes.context,
            encoder=sizes.encoder,
            layers=sizes.layers,
            heads=sizes.heads,
            width=sizes.width,
            epochs=self.passes,
            batch=model.training.batch,
            lr=model.training.lr,
        )

    def _short(self, pool: Pool, model: LanguageModel, attack: Imitation) -> list[str]:
        """Returns the pairs whose first side the victim takes, also when tokens of it are flipped."""
        room = model.gpt.context - attack.length - 8 * self.flips
        return [pair for pair in pool.x.tolist() if len(model.tokens.encode(sides(pair)[0])) <= room]

    def _flips(
        self,
        students: Mapping[str, Translator],
        oracle: CompletionOracle,
        asked: Texts,
        said: Texts,
        *,
        length: int,
        seed: int,
    ) -> dict[str, Any]:
        """Returns how much of its translations the victim, and the imitation, keep when texts are flipped."""
        attack = Flips(self.flips, length=length)
        imitation = students["imitation"]
        before = likeliest(imitation, asked, length)
        rng = np.random.default_rng([seed, 3])
        flipped = {
            "on the imitation": attack.disturbed(imitation, asked),
            "on a model of own pairs": attack.disturbed(students["own pairs"], asked),
            "at random": attack.at_random(imitation, asked, rng),
        }
        kept = {}
        for name, texts in flipped.items():
            told: list[list[Completion]] = oracle.complete(texts, Decoding(length, temperature=0))
            kept[name] = {
                "victim": bleu([one.text for (one,) in told], said),
                "imitation": bleu(likeliest(imitation, texts, length), before),
            }
        return kept

    def _rows(self, measured: Mapping[int, Mapping[str, Any]]) -> list[Finding]:
        def of(name: str, what: str) -> dict[int, float]:
            return {seed: one[name][what] for seed, one in measured.items()}

        def listed(name: str, what: str) -> str:
            return ", ".join(f"{value:.1f}" for value in of(name, what).values())

        rows = []
        least = self.sentences[0]
        for n in self.sentences:
            cost = ", ".join(f"{one[f'imitation, {n}']['micro_cents'] / 1e8:.2f}" for one in measured.values())
            for what, unit in (("victim", "against the victim"), ("reference", "against the truth")):
                rivals = {
                    "own pairs": listed(f"own pairs, {n}", what),
                    f"{least:,} shuffled answers": listed(f"shuffled answers, {least}", what),
                    "a copy of the text": listed("copy of the text", what),
                }
                rows.append(
                    over_seeds(
                        f"BLEU of an imitation {unit}",
                        f"{self.recipe}, {n:,} texts for {cost}; victims' own against the truth "
                        + listed("victim", "reference"),
                        self.PUBLISHED if what == "reference" else "none in this setting",
                        of(f"imitation, {n}", what),
                        baseline="; ".join(f"{name}: {value}" for name, value in rivals.items()),
                        unit="BLEU",
                    )
                )
        for name in next(iter(measured.values())).get("flips", {}):
            kept = {seed: one["flips"][name] for seed, one in measured.items()}
            rows.append(
                over_seeds(
                    f"BLEU of what the victim keeps of its translation, flips found {name}",
                    f"{self.recipe}, {self.flips} tokens of each text",
                    "none in this setting",
                    {seed: one["victim"] for seed, one in kept.items()},
                    baseline="the imitation keeps "
                    + ", ".join(f"{one['imitation']:.1f}" for one in kept.values()),
                    unit="BLEU",
                )
            )
        return rows


@dataclass(frozen=True)
class A11(Translation):
    """Imitations of a model that turns one style of text into another."""

    ID: ClassVar[str] = "A11"
    SAYS: ClassVar[str] = "Style models are stolen from their input-output pairs (here: of text)"
    SOURCE: ClassVar[str] = "Szyller et al., 2021"
    PUBLISHED: ClassVar[str] = "none for text; images of a stolen model are judged as good as the victim's"

    recipe: str = "kjv-modern"


def split(pairs: Texts) -> tuple[list[str], list[str]]:
    """Returns the sides of pairs."""
    both = [sides(pair) for pair in pairs]
    return [first for first, _ in both], [second for _, second in both]


def worth(translated: Texts, said: Texts, truth: Texts) -> dict[str, float]:
    """Returns the BLEU of translations against the victim's and against the truth."""
    return {"victim": bleu(translated, said), "reference": bleu(translated, truth)}


def _shuffled(pairs: Texts, seed: int) -> list[str]:
    first, second = split(pairs)
    return paired(first, np.random.default_rng([seed, 2]).permutation(np.array(second, dtype=object)).tolist())


def bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """Returns the BLEU of all translations together against a reference each, from 0 to 100."""
    return float(corpus_bleu(translations, [references]).score)
