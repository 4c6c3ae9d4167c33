"""E3 and E4: shadow data need not be real, nor clean.

Source: Shokri, Stronati, Song, Shmatikov, "Membership Inference Attacks Against Machine Learning Models", IEEE S&P
2017, sections V-C and VIII-B.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from attacker.membership.gap import Gap
from attacker.membership.membership import Membership
from attacker.membership.shadow import Shadow
from attacker.synthesis import Synthesis, flipped, from_marginals
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.claims.spying import Division, accuracy, checked, figures, spied
from experiments.header import cores
from experiments.lab import Lab
from experiments.parties import Server
from wire import Array, BadInput, Oracle
from zoo.data import Pool
from zoo.families.mlp import Mlp
from zoo.training import Training

PUBLISHED = {  # precision, recall on Purchase-100; the noisy ones are drawn, not tabled, and on Location
    "real": (0.935, 0.994),
    "marginals": (0.795, 0.991),
    "synthesised": (0.896, 0.526),
}


@dataclass(frozen=True)
class E3:
    """The shadow-model attack with shadow data from five sources.

    Attributes:
        data: The data set, of binary features.
        rows: Rows that train the victim, and as many non-members.
        shadow: Shadow rows of every source; the real ones are those that are left of the data.
        epochs: Passes of the victim over its rows.
        lr: Greatest learning rate of victims and reference models.
        references: Reference models.
        choices: Numbers of epochs of the reference models to choose from.
        attack_epochs: Passes of an attack model.
        noise: Shares of flipped features of the noisy real data.
        draws: Rows drawn from marginals for one that is kept.
        confidence: Least probability of a synthesised row's class.
        steps: Rows that a climb of the synthesis asks about before it is given up.
    """

    ID: ClassVar[str] = "E3"
    SAYS: ClassVar[str] = (
        "Shadow data may be drawn from marginals, synthesised through the API, or noisy: the attack still works"
    )
    SOURCE: ClassVar[str] = "Shokri et al., IEEE S&P 2017, section VIII-B"

    data: str = "location30"
    rows: int = 1200
    shadow: int = 2610
    epochs: int = 30
    lr: float = 1e-3
    references: int = 4
    choices: tuple[int, ...] = (10, 14, 20, 28, 40)
    attack_epochs: int = 10
    noise: tuple[float, ...] = (0.1, 0.2)
    draws: int = 10
    confidence: float = 0.2
    steps: int = 1000

    def run(self, lab: Lab) -> Findings:
        """Attacks each victim over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        measured: dict[str, dict[int, dict[str, Any]]] = {}
        billed: dict[str, dict[int, float | None]] = {}
        made: dict[str, dict[int, float | None]] = {}
        shares: dict[str, dict[int, float | None]] = {}
        nulls, victims = {}, {}
        for seed in lab.seeds:
            division = Division.of(lab.dataset(self.data).pool, self.rows, self.shadow, seed)
            victim, null = (
                lab.train(pool, seed, family=Mlp(), training=Training(self.epochs, lr=self.lr), label="victim")
                for pool in (division.members, division.unrelated)
            )
            server = lab.serve(f"victims-{seed}", {"victim": (victim, ""), "null": (null, "")})
            empty: dict[str, Array] = {}
            pools = self._pools(lab, server, division)
            for name, (pool, rows) in tqdm(pools.items(), desc=f"{self.ID}, seed {seed}", unit="source"):
                assert division.candidates.y is not None and pool.y is not None
                covered = np.isin(division.candidates.y, pool.y)
                if not covered.any():
                    raise BadInput(f"shadow data, {name}: not a single row was found; allow more steps")
                held = replace(
                    division,
                    shadow=pool,
                    candidates=division.candidates.take(covered),
                    member=division.member[covered],
                )
                worth, found = spied(lab, server, ("victim", "null"), self._attacks(lab), held, name)
                for attack, scores in found.items():
                    empty[attack] = np.full(len(covered), np.nan)
                    empty[attack][covered] = scores
                shares.setdefault(name, {})[seed] = float(covered.mean())
                measured.setdefault(name, {})[seed] = worth
                billed.setdefault(name, {})[seed], made.setdefault(name, {})[seed] = rows, len(pool)
            nulls[seed] = checked(empty, division)
            victims[f"victim-{seed}"] = {
                **lab.about(victim, self.data, self.rows, division.others),
                "train_accuracy": accuracy(victim, division.members),
            }
        return Findings(
            tuple(
                row
                for name in measured
                for row in self._rows(name, measured[name], billed[name], made[name], shares[name])
            ),
            {},
            victims,
            (
                "Published: Purchase-100 on Google's service, whose records are not public; ours is other data.",
                "Rows of marginals are labelled by the victim; synthesised ones by their climb. Both are billed. "
                "Candidates of classes without a shadow row are left out.",
            ),
            {"measured": measured, "null": nulls},
        )

    def _pools(self, lab: Lab, server: Server, division: Division) -> dict[str, tuple[Pool, int]]:
        """Returns the shadow pool of each source, and the rows that were asked about for it."""
        rng = np.random.default_rng([division.seed, 3])
        real, rows = division.shadow, len(division.shadow)
        labelling, climbing = (
            lab.oracle(server, "victim", f"{name}-{division.seed}") for name in ("marginals", "synthesis")
        )
        marginals = self._labelled(labelling, real, rng)
        synthesis = Synthesis(rows=rows, confidence=self.confidence, steps=self.steps)
        synthesised = replace(synthesis.synthesise(climbing, rng), class_names=real.class_names)
        return {
            "real": (real, 0),
            "marginals": (marginals, labelling.spent),
            "synthesised": (synthesised, climbing.spent),
            **{f"{share:.0%} flipped": (flipped(real, share, rng), 0) for share in self.noise},
        }

    def _labelled(self, oracle: Oracle, real: Pool, rng: np.random.Generator) -> Pool:
        """Returns rows drawn from marginals, equally many of each class as far as the victim finds any."""
        drawn = from_marginals(real, self.draws * len(real), rng)
        labels = oracle.query(drawn).labels
        classes = np.unique(labels)
        kept = [np.flatnonzero(labels == label)[: -(-len(real) // len(classes))] for label in classes]
        return replace(real, x=drawn, y=labels).take(np.concatenate(kept)[: len(real)])

    def _attacks(self, lab: Lab) -> dict[str, Membership]:
        shadow = Shadow(
            family="mlp",
            lr=self.lr,
            epochs=self.choices,
            references=self.references,
            attack_epochs=self.attack_epochs,
            jobs=cores(),
            state=lab.cache.parent / "attacker",
        )
        return {"gap": Gap(), "shadow": shadow}

    def _rows(
        self,
        name: str,
        measured: Mapping[int, Mapping[str, Any]],
        billed: Mapping[int, float | None],
        made: Mapping[int, float | None],
        shares: Mapping[int, float | None],
    ) -> list[Finding]:
        setting = f"{self.data}, MLP, {self.rows:,} members among as many others; shadow data: {name}"
        gap = ", ".join(f"{of['gap']['auc']:.3f}" for of in measured.values())
        known = zip(("precision", "recall"), PUBLISHED.get(name, ()), strict=False)
        published = {figure: f"{value:.3f} (Purchase-100)" for figure, value in known}
        worth = {seed: of["shadow"] for seed, of in measured.items()}
        return [
            over_seeds("shadow rows", setting, "none", made, baseline="none"),
            over_seeds("candidates of their classes", setting, "none", shares, baseline="none", unit="share"),
            over_seeds("rows billed to make them", setting, "none", billed, baseline="none"),
            *figures("shadow", setting, published, worth, ("auc", "precision", "recall"), f"AUC of the gap {gap}"),
        ]
