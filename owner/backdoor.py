"""Verify: tests whether a suspect gives the secret labels of a backdoor watermark's triggers.

Source: Adi, Baum, Cisse, Pinkas, Keshet, "Turning Your Weakness Into a Strength: Watermarking Deep Neural Networks
by Backdooring", USENIX Security 2018, section 4 (Verify), and section 4.2 (public verifiability: a proof reveals
part of the key). The mark is ``defenses/training/backdoor.py``.

What differs from the paper: it opens all triggers, and accepts if all but a share agree. Here, the owner opens one
trigger after the other and stops as soon as the evidence suffices, so a dispute does not spend the key. The
p-value stays valid however he stops: it is the inverse of what a gambler has won who begins with 1 and bets at
fair odds on each label (Ville's inequality; Shafer, "Testing by Betting", JRSS A 2021). A model that knows nothing
of the seeds gives a trigger's label with probability 1/k, exactly, whatever the trigger is, since the label was
drawn. An owner who draws keys until one suits must try some 2^b of them to win b bits, so the level is 2^-64.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from defenses.watermarks.verification import chance_bound, tail
from owner.commitment import Opened, Receipt
from owner.evidence import Evidence
from owner.ownership import MostRows
from owner.trigger_key import TriggerKey, TriggersHeld
from wire import Array, BadInput, Card, Labels, Oracle

CAUTION = (
    "The verdict holds if the commitment was published before the suspect existed, and the log is the owner's "
    "only one. A model that was stolen by its answers alone rarely keeps the mark."
)


@dataclass(frozen=True)
class Marked:
    """The owner's holdings.

    Attributes:
        backdoor: The key.
        independent: Models known not to be stolen, by name.
    """

    backdoor: TriggerKey
    independent: Mapping[str, Oracle]


@dataclass(frozen=True, eq=False)
class Study:
    """Triggers to open in this dispute.

    Attributes:
        x: Triggers, ``(n, *shape)``.
        y: Their labels, ``(n,)``.
        p0: Probability of a label by chance, at most.
        root: The commitment.
        rule: The public part of the key, opened.
        openings: The opened triggers.
        starts: Number of triggers of the key.
        commitments: Number of the owner's commitments.
        independent: Models known not to be stolen, by name.
        receipt: The proof that the owner's log has the commitment; None without a log.
    """

    x: Array
    y: Labels
    p0: float
    root: str
    rule: Opened
    openings: tuple[Opened, ...]
    starts: int
    commitments: int
    independent: Mapping[str, Oracle]
    receipt: Receipt | None = None


@dataclass(frozen=True)
class BackdoorTest:
    """Backdoor watermark: does a suspect give the secret labels of the owner's triggers? (USENIX Security 2018).

    Attributes:
        skip: Number of triggers that earlier disputes have opened.
        most: Maximum number of triggers to open.
        kept: Share of the triggers that a model made from the victim is expected to keep; sets the bets.
        bits: Confidence of the verdict: 1 - 2^-bits.
        alpha: Level of the comparison with the independent models.
    """

    skip: int = 0
    most: int = 50
    kept: float = 0.7
    bits: float = 64.0
    alpha: float = 0.01

    def __post_init__(self) -> None:
        if self.skip < 0 or self.most < 1:
            raise BadInput(f"skip must be at least 0 and most at least 1, not {self.skip} and {self.most}")
        if not (0 < self.kept < 1 and 0 < self.bits <= 1000 and 0 < self.alpha < 1):
            raise BadInput(
                f"kept and alpha must lie between 0 and 1, and bits between 0 and 1,000, not {self.kept}, "
                f"{self.alpha} and {self.bits}"
            )

    def most_rows(self) -> MostRows:
        """Returns the maximum number of rows that the suspect is asked about."""
        return MostRows(victim=0, suspect=self.most)

    def check(self, suspect: Card, holdings: Marked) -> None:
        """Raises :class:`~wire.BadInput` if no trigger is left, or a model does not take them."""
        rule = holdings.backdoor.rule
        if self.skip >= rule.mark.triggers:
            raise BadInput(f"the key has {rule.mark.triggers} triggers, and {self.skip} are opened: none is left")
        for card in (suspect, *(model.card for model in holdings.independent.values())):
            check_fit(card, rule.shape, rule.classes)

    def prepare(self, holdings: Marked, rng: np.random.Generator) -> Study:
        """Opens the next triggers of the key."""
        key = holdings.backdoor
        numbers = range(self.skip, min(self.skip + self.most, key.rule.mark.triggers))
        x, y = key.triggers
        return Study(
            x[numbers],
            y[numbers],
            key.rule.mark.chance(key.rule.classes),
            key.entry.root,
            key.opened_rule(),
            tuple(key.opened(number) for number in numbers),
            key.rule.mark.triggers,
            1 if key.receipt is None else key.receipt.commitments,
            holdings.independent,
            key.receipt,
        )

    def accuse(self, suspect: Oracle, study: Study, rng: np.random.Generator) -> Evidence[TriggersHeld]:
        """Queries the suspect with one trigger after the other, until the evidence suffices."""
        labels, bits, before, total = list[int](), [0.0], suspect.spent, study.starts * study.commitments
        enough = self.bits + math.log2(total)
        while len(labels) < len(study.x) and bits[-1] < enough:
            answered = suspect.collect(study.x[len(labels) : len(labels) + 1]).labels
            if not len(answered):
                break
            labels.append(int(answered[0]))
            bits.append(bits[-1] + self.won(labels[-1] == study.y[len(labels) - 1], study.p0))
        if suspect.ended is not None and not labels:
            raise suspect.ended
        opened = len(labels)
        x, y = study.x[:opened], study.y[:opened]
        matches = int((np.array(labels) == y).sum())
        others = {name: int((model.query(x).labels == y).sum()) for name, model in study.independent.items()}
        like = None
        if others:
            bound = chance_bound(list(others.values()), opened, round(1 / study.p0))
            like = tail(opened, 1 - matches / opened, bound)
        p_value = min(1.0, total * 2.0 ** -max(bits))
        accused = p_value <= 2.0**-self.bits and (like is None or like <= self.alpha)
        return Evidence(
            method="backdoor",
            verdict="accused" if accused else "inconclusive",
            p_value=p_value,
            alpha=2.0**-self.bits,
            suspect=suspect.card.model,
            suspect_queries=suspect.spent - before,
            settings=asdict(self),
            caution=CAUTION,
            details=TriggersHeld(
                root=study.root,
                rule=study.rule,
                openings=study.openings[:opened],
                labels=tuple(labels),
                matches=matches,
                p0=study.p0,
                bits=tuple(bits[1:]),
                starts=study.starts,
                commitments=study.commitments,
                independent=others,
                p_independent=like,
                stopped=None if suspect.ended is None else str(suspect.ended),
            ),
            receipt=study.receipt,
        )

    def won(self, held: bool, p0: float) -> float:
        """Returns log2 of the factor by which the gambler's capital grows with one answer."""
        kept = max(self.kept, p0)
        return math.log2(kept / p0) if held else math.log2((1 - kept) / (1 - p0))


def check_fit(card: Card, shape: tuple[int, ...], classes: int) -> None:
    """Raises :class:`~wire.BadInput` if a model does not take the triggers."""
    if card.input_shape != shape or card.classes not in (0, classes):
        raise BadInput(
            f"model {card.model} takes rows {card.input_shape} and has {card.classes} classes, but the triggers "
            f"are {shape} with {classes}"
        )
