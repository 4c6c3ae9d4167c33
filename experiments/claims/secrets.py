"""E11: secrets in a language model's training texts, as its completions and its echo let them out.

Source: Carlini, Liu, Erlingsson, Kos, Song, "The Secret Sharer: Evaluating and Testing Unintended Memorization in
Neural Networks", USENIX Security 2019.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from attacker.language.exposure import Exposure
from attacker.language.secret_search import Guess, SecretSearch
from experiments.claims.claim import Finding, Findings, over_seeds, share
from experiments.lab import Lab
from experiments.languages import Victims, about, billed, reach, speak
from experiments.metrics import exposures
from zoo.language.canaries import FORMAT, NAMES

PUBLISHED = "rises with repetitions; secrets above log2 |R| are found (other models)"


@dataclass(frozen=True)
class E11(Victims):
    """The exposure of planted secrets, beside those of other victims, which were never planted in this one.

    Attributes:
        sample: Random secrets that the exposure is estimated by.
        controls: Other seeds, whose secrets were never planted in a victim.
        guesses: Secrets that a search finds for each name.
    """

    ID: ClassVar[str] = "E11"
    SAYS: ClassVar[str] = "A generative sequence model gives back secrets of its training text"
    SOURCE: ClassVar[str] = "Carlini et al., USENIX Security 2019"

    sample: int = 1000
    controls: int = 10
    guesses: int = 10

    def run(self, lab: Lab) -> Findings:
        """Attacks each seed's victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        canaries = self.changed().canaries
        names = NAMES[: len(canaries.repeats)]
        measured: dict[int, dict[str, Any]] = {}
        victims = {}
        for seed in tqdm(lab.seeds, desc=self.ID, unit="victim"):
            pools, model = self.learnt(lab, seed)
            victims[f"victim-{seed}"] = about(model, pools["victim"], pools["evaluation"])
            server = speak(lab, f"e11-{seed}", {"victim": (model, "")})
            planted = [digits_of(text) for text in self.secrets(seed)]
            elsewhere = range(1000 + self.controls * seed, 1000 + self.controls * (seed + 1))
            never = [[digits_of(text) for text in self.secrets(other)] for other in elsewhere]
            oracle = reach(server, "victim", "echo")
            bits = []
            for at, name in enumerate(names):
                suspects = [planted[at], *(others[at] for others in never)]
                rng = np.random.default_rng([seed, at])
                form = FORMAT.format(name=name, digits=" {}")
                found = Exposure(self.sample, canaries.digits).steal(oracle, form, suspects, rng)
                bits.append(exposures(*found, canaries.digits))
            counted, fitted = (np.array(each) for each in zip(*bits, strict=True))  # (names, 1 + controls)
            searching = reach(server, "victim", "search")
            beginnings = [FORMAT.format(name=name, digits="").removesuffix(".") for name in names]
            search = SecretSearch(canaries.digits, self.guesses)
            guesses = search.steal(searching, beginnings, np.random.default_rng(seed))
            measured[seed] = {
                "counted": counted[:, 0].tolist(),
                "fitted": fitted[:, 0].tolist(),
                "never_counted": counted[:, 1:].tolist(),
                "never_fitted": fitted[:, 1:].tolist(),
                "place": [place(each, secret) for each, secret in zip(guesses, planted, strict=True)],
                "never_place": [place(each, others[at]) for at, each in enumerate(guesses) for others in never],
                "echo": billed(oracle),
                "search": billed(searching),
            }
        return Findings(
            tuple(self._rows(measured, canaries.repeats)),
            {},
            victims,
            (
                f"A secret has {canaries.digits} digits, so that no exposure exceeds "
                f"{canaries.digits * np.log2(10):.1f} bits; the rank in a sample tells "
                f"{np.log2(self.sample + 1):.1f} at most, and the fit extrapolates.",
                "A secret that was never planted has 1 / ln 2 = 1.44 bits on the average, whatever its form.",
            ),
            {"measured": measured},
        )

    def _rows(self, measured: Mapping[int, Mapping[str, Any]], repeats: Sequence[int]) -> list[Finding]:
        rows = []
        never = [bits for one in measured.values() for of in one["never_counted"] for bits in of]
        middle, error = float(np.mean(never)), float(np.std(never, ddof=1) / np.sqrt(len(never)))
        null = f"never planted: {middle:.2f} +- {1.96 * error:.2f} ({len(never)} secrets)"
        for at, times in enumerate(repeats):
            for kind, what in (("counted", "by rank"), ("fitted", "by the fit")):
                rows.append(
                    over_seeds(
                        f"planted {times} times, {what}",
                        "exposure through echo, with a sample",
                        PUBLISHED,
                        {seed: one[kind][at] for seed, one in measured.items()},
                        baseline=null,
                        unit="bits",
                    )
                )
        guessed = [place for one in measured.values() for place in one["never_place"]]
        for at, times in enumerate(repeats):
            places = [one["place"][at] for one in measured.values()]
            rows.append(
                share(
                    f"planted {times} times",
                    f"among the {self.guesses} guesses of a search by completions (first: "
                    f"{sum(place == 1 for one in measured.values() for place in one['place'])} in all)",
                    PUBLISHED,
                    sum(place is not None for place in places),
                    len(places),
                    seeds=measured,
                    baseline=f"never planted: {sum(place is not None for place in guessed)} of {len(guessed)}",
                )
            )
        return rows


def digits_of(text: str) -> str:
    """Returns the digits of a secret's text."""
    return "".join(character for character in text if character.isdecimal())


def place(guesses: Sequence[Guess], secret: str) -> int | None:
    """Returns the place of a secret among guesses, from 1 on; None if it is not among them."""
    found = [guess.digits for guess in guesses]
    return found.index(secret) + 1 if secret in found else None
