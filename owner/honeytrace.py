"""Neural Honeytrace's claim: does a suspect assign the secret class to secret triggers?

Source: Xu, Fang, Wang, Zhou, Liu, Li, Tian, "Neural Honeytrace: Plug&Play Watermarking Framework against Model
Extraction Attacks", arXiv 2501.09328 (a claim by a t-test on triggers). The answers are changed by
``defenses/watermarks/honeytrace.py``.

What differs: a t-test over the triggers of one suspect asks whether it gives the class more often than by chance;
but triggers are alike, and which class a model gives to composites is a matter of its family. Comparing a suspect
with independent models of another family accuses it for that alone. So triggers of wrong keys, other classes and
other images, are shown too, and the owner's must stand out among them (``wrong_keys.py``): the rank is exact for
any suspect. What independent models make of each key's triggers is taken off. Where all models tell probabilities,
the mean logarithm of the class's counts in place of the share of triggers that get it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from defenses.watermarks.honeytrace import triggers
from owner.commitment import Receipt
from owner.evidence import Evidence
from owner.one_more import enough, evidence
from owner.ownership import Committing, MostRows
from owner.scheme_key import SchemeKey
from owner.wrong_keys import Standing, standing
from wire import Array, BadInput, Card, Oracle
from wire.fits import label_misfit, misfit
from zoo.data.pool import Pool

FLOOR = 1e-6  # of a probability
CAUTION = (
    "The p-value holds if the secret was fixed before there was a suspect: that of the rank is exact over "
    "secrets, that of Student's t approximate."
)


@dataclass(frozen=True)
class Triggers:
    """The owner's holdings.

    Attributes:
        private: Labelled images, of which the triggers are composed.
        committed: The key, from which triggers and secret class follow.
        independent: Models known not to be stolen, by name.
    """

    private: Pool
    committed: SchemeKey
    independent: Mapping[str, Oracle]


@dataclass(frozen=True, eq=False)
class Study:
    """The triggers of all keys, and how often independent models give their class.

    Attributes:
        triggers: The triggers to show, of the owner's key and of each wrong one.
        independent: How each independent model leans.
        receipt: The proof that the owner's log has the commitment; None without a log.
    """

    triggers: Sequence[Pool]
    independent: Mapping[str, Leans]
    receipt: Receipt | None = None

    def leans(self, model: Oracle) -> Leans:
        """Asks a model about the triggers of all keys."""
        answer = model.query(np.concatenate([pool.x for pool in self.triggers]))
        wanted, keys = np.concatenate([pool.y for pool in self.triggers]), len(self.triggers)
        shares = (answer.labels == wanted).reshape(keys, -1).mean(axis=1)
        if answer.probs is None:
            return Leans(shares, None)
        told = np.nan_to_num(answer.probs[np.arange(len(wanted)), wanted].astype(np.float64))
        return Leans(shares, np.log(np.clip(told, FLOOR, 1)).reshape(keys, -1).mean(axis=1))

    def standing(self, own: Leans) -> Standing:
        """Ranks the owner's key: by probabilities, if all models tell them."""
        every = [own, *self.independent.values()]
        told = [one.logs for one in every if one.logs is not None]
        mine, *others = told if len(told) == len(every) else [one.shares for one in every]
        return standing(mine, others)


class Leans(NamedTuple):
    """How a model leans towards the class of each key, ``(1 + wrong,)`` each; the owner's is the first.

    Attributes:
        shares: Share of the triggers to which it gives the class.
        logs: Mean logarithm of the class's probability; None if the model gives labels alone.
    """

    shares: Array
    logs: Array | None


@dataclass(frozen=True)
class Leaning:
    """How often a suspect returns the secret class for triggers.

    Attributes:
        rows: Number of triggers of the owner's key that were shown.
        shared: Share of them to which the suspect gives the class.
        rank: The place of the owner's key among wrong ones.
        z: Its distance from the wrong keys' mean, in their deviations, after what independent models know.
        wrong: The share by each wrong key.
        independent: The share of each independent model, by the owner's key.
        commitments: Number of the owner's commitments, which multiplies the p-value.
    """

    rows: int
    shared: float
    rank: int
    z: float
    wrong: tuple[float, ...]
    independent: dict[str, float]
    commitments: int

    def describe(self, verdict: str) -> list[str]:
        """Returns the measurements and the next step, as lines."""
        return [
            f"the suspect gives {self.shared:.1%} of {self.rows} triggers their secret class",
            f"by wrong keys {np.mean(self.wrong):.1%} on average, {max(self.wrong):.1%} at most",
            *(f"independent model {name}: {found:.1%}" for name, found in self.independent.items()),
            f"the owner's key is number {self.rank} of {1 + len(self.wrong)} keys, z = {self.z:.2f}, by the "
            "class's probability if all models tell it",
            f"p is multiplied by the number of commitments in the log, {self.commitments}",
            "next: give the evidence, the key's folder and the private images to a judge (judge-committed)",
        ]


@dataclass(frozen=True)
class HoneytraceTest(Committing):
    """Neural Honeytrace: does a suspect give secret triggers their secret class? (arXiv 2501.09328).

    Attributes:
        rows: Number of triggers of each key to show.
        wrong: Number of wrong keys.
        alpha: Significance level.
        tries: Number of suspects and of secrets that the owner tried; multiplies the p-value.
    """

    rows: int = 50
    wrong: int = 99
    alpha: float = 0.01
    tries: int = 1

    def __post_init__(self) -> None:
        if self.rows < 1 or self.wrong < 2 or self.tries < 1 or not 0 < self.alpha < 1:
            raise BadInput(
                f"rows and tries must be at least 1, wrong at least 2 and alpha between 0 and 1, not {self.rows}, "
                f"{self.tries}, {self.wrong} and {self.alpha}"
            )

    def most_rows(self) -> MostRows:
        """Returns the maximum number of rows that the suspect is asked about."""
        return MostRows(victim=0, suspect=(1 + self.wrong) * self.rows)

    def check(self, suspect: Card, holdings: Triggers) -> None:
        """Raises :class:`~wire.BadInput` if there are too few models, or one does not take the triggers."""
        enough(holdings.independent)
        private = holdings.private
        holdings.committed.rule.check("honeytrace", files_of(private), self.committed())
        for card in (suspect, *(model.card for model in holdings.independent.values())):
            if fault := misfit(private.x, card) or label_misfit(private.y, card):
                raise BadInput(f"model {card.model} does not take the private images: {fault}")

    def prepare(self, holdings: Triggers, rng: np.random.Generator) -> Study:
        """Makes the triggers of all keys, and asks the independent models."""
        key = holdings.committed
        made = [triggers(holdings.private, seed, self.rows) for seed in (key.seed, *key.wrong(self.wrong))]
        asked = Study(made, {}, key.receipt)
        return replace(asked, independent={name: asked.leans(one) for name, one in holdings.independent.items()})

    def accuse(self, suspect: Oracle, study: Study, rng: np.random.Generator) -> Evidence[Leaning]:
        """Queries the suspect about the triggers of all keys."""
        before, own = suspect.spent, study.leans(suspect)
        found = study.standing(own)
        details = Leaning(
            len(study.triggers[0]),
            float(own.shares[0]),
            found.rank,
            found.z,
            tuple(own.shares[1:].tolist()),
            {name: float(one.shares[0]) for name, one in study.independent.items()},
            1 if study.receipt is None else study.receipt.commitments,
        )
        return evidence("honeytrace", self, found.p, suspect, before, CAUTION, details, study.receipt)


def files_of(private: Pool) -> dict[str, str]:
    """Returns the hashes to which a key is bound."""
    return {"private images": private.fingerprint}
