"""A3: decision trees are found leaf by leaf.

Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 4.2 and table 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from tqdm import tqdm

from attacker.extraction.path_finding import PathFinding
from experiments import metrics
from experiments.claims.claim import Finding, Findings, over_seeds
from experiments.lab import Lab
from wire import Array
from wire.fits import uniform
from zoo.data import Pool
from zoo.families.trees import Tree
from zoo.model import Model
from zoo.network import Network
from zoo.recipe import Recipe

TREES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "iris": ("iris", {}),
    "breast cancer": ("breast_cancer", {}),
    "adult, depth 8": ("adult", {"depth": 8}),
    "adult, 20 rows a leaf": ("adult", {"leaf": 20}),
}
"""The victims: data, and the fields of their family."""

PUBLISHED = {
    "complete": "1,722 to 101,057 rows for 26 to 318 leaves of other data",
    "incomplete": "1,150 to 29,609 rows for 26 to 318 leaves of other data",
}
BUDGET = 1_000_000
Told = Literal["laplace", "share", "leaf ids"]
"""The answer of a leaf: Laplace's estimate, the shares of classes, or these and the leaf's number."""
SPARE = ("unseen", "shadow", "control", "reference", "evaluation")  # roles that train neither victim nor thief


@dataclass(frozen=True)
class A3:
    """Agreement of a tree that path-finding found with its victim, and the rows that it took.

    Attributes:
        trees: The victims, of :data:`TREES`.
        tolerances: Distances to which ends are located; the paper's is 0.001.
        uniform_rows: Uniformly random rows on which the two are compared.
    """

    ID: ClassVar[str] = "A3"
    SAYS: ClassVar[str] = (
        "Path-finding finds decision trees with 1,150 to 29,609 incomplete rows; they agree with the victim on at "
        "least 99.65 % of test and uniform rows"
    )
    SOURCE: ClassVar[str] = "Tramer et al., USENIX Security 2016, table 6"

    trees: tuple[str, ...] = tuple(TREES)
    tolerances: tuple[float, ...] = (1e-3, 1e-6)
    uniform_rows: int = 5000

    def run(self, lab: Lab) -> Findings:
        """Steals each tree over HTTP; see :class:`~experiments.claims.claim.Claim`."""
        data = {TREES[name][0] for name in self.trees}
        held = {(name, seed): lab.roles(name, seed) for name in sorted(data) for seed in lab.seeds}
        tests = {key: _test(pools) for key, pools in held.items()}
        kinds: tuple[Told, ...] = ("laplace", "share", "leaf ids")
        victims = {
            (name, kind, seed): lab.train(
                held[TREES[name][0], seed]["victim"],
                seed,
                family=Tree(
                    **TREES[name][1], confidence="laplace" if kind == "laplace" else "share", missing="stop"
                ),
            )
            for name in self.trees
            for kind in kinds
            for seed in lab.seeds
        }
        called = {key: f"tree-{number}" for number, key in enumerate(victims)}
        server = lab.serve(
            "victims",
            {called[key]: (network, "") for key, network in victims.items()},
            leaves=[called[key] for key in victims if key[1] == "leaf ids"],
        )
        attacks: list[tuple[Told, PathFinding]] = [("laplace", PathFinding("complete", self.tolerances[0]))]
        attacks += [("laplace", PathFinding("incomplete", tolerance)) for tolerance in self.tolerances]
        attacks += [("share", PathFinding("incomplete", self.tolerances[0]))]
        attacks += [("leaf ids", PathFinding(rows, self.tolerances[0])) for rows in ("complete", "incomplete")]
        runs = [(name, *attack, seed) for name in self.trees for attack in attacks for seed in lab.seeds]
        found: dict[tuple[str, str, PathFinding], dict[str, dict[int, float | None]]] = {}
        for name, kind, attack, seed in tqdm(runs, desc=self.ID, unit="theft", dynamic_ncols=True):
            if attack.rows == "incomplete" and not held[TREES[name][0], seed]["victim"].missing:
                continue
            victim, pools = victims[name, kind, seed], held[TREES[name][0], seed]
            account = f"{called[name, kind, seed]}-{attacks.index((kind, attack))}"
            stolen = lab.attack(server, called[name, kind, seed], account, attack, pools["pool"], BUDGET, seed)
            measured = self._compare(
                stolen.model, victim, pools["pool"], tests[TREES[name][0], seed].x, len(stolen.x), seed
            )
            measured |= {"rows": len(stolen.x), "requests": stolen.requests, "money": stolen.money / 10**8}
            for what, value in measured.items():
                found.setdefault((name, kind, attack), {}).setdefault(what, {})[seed] = value
        leaves = {key: _leaves(victim) for key, victim in victims.items()}
        return Findings(
            tuple(self._found(found, {key: leaves[*key, lab.seeds[0]] for key in {k[:2] for k in leaves}})),
            {"uniform rows": {"is": "features uniform over the card's ranges", "rows": self.uniform_rows}},
            {
                f"{name}, {kind}, seed {seed}": {
                    **lab.about(
                        victim,
                        TREES[name][0],
                        len(held[TREES[name][0], seed]["victim"]),
                        tests[TREES[name][0], seed],
                    ),
                    **dict(zip(("leaves", "answers"), leaves[name, kind, seed], strict=True)),
                }
                for (name, kind, seed), victim in victims.items()
            },
            (
                "BigML's own trees and data are not to hand, so that no row stands beside a published one of its "
                "setting. A victim's answer is the distribution over classes of a node, with Laplace's estimate "
                "where the setting says so; BigML's was a bound that also grows with the node. With leaf ids, an "
                "answer also tells the number of the leaf, or of the node where an incomplete row ends.",
                "Victims and surrogates are compared on complete rows that train nobody. A row that lacks a "
                "feature ends at an inner node of the victim, which the surrogate does not have.",
                "The null is a tree grown on the victim's labels of as many uniform rows; the second baseline "
                "knows the true labels of the thief's pool and asks nothing.",
            ),
        )

    def _compare(
        self, stolen: Network, victim: Network, pool: Pool, test: Array, rows: int, seed: int
    ) -> dict[str, float]:
        """Returns the agreement of the surrogate, of a null and of a baseline with the victim."""
        rng = np.random.default_rng([seed, 3])
        random = uniform(victim.card(), self.uniform_rows, rng)
        asked = uniform(victim.card(), rows, rng)
        labelled = Pool(asked, victim.predict(asked).argmax(1).astype(np.int64), victim.class_names)
        copies: dict[str, Model] = {"": stolen, "baseline, ": Recipe(Tree(), seed=seed).train(pool)}
        if len({*labelled.y.tolist()} if labelled.y is not None else ()) == victim.classes:
            copies["null, "] = Recipe(Tree(), seed=seed).train(labelled)
        return {
            f"{whose}{what}": metrics.agreement(copy.predict(x).argmax(1), victim.predict(x).argmax(1)).rate
            for whose, copy in copies.items()
            for what, x in (("test", test), ("uniform", random))
        }

    def _found(
        self,
        found: Mapping[tuple[str, str, PathFinding], Mapping[str, Mapping[int, float | None]]],
        leaves: Mapping[tuple[str, str], tuple[int, int]],
    ) -> Iterator[Finding]:
        for (name, kind, attack), measured in found.items():
            of, answers = leaves[name, kind]
            where = (
                f"{name}: {of} leaves with {answers} answers ({kind}); {attack.rows} rows, ends to "
                f"{attack.tolerance:g}"
            )
            for what in ("rows", "requests", "money"):
                published = PUBLISHED[attack.rows] if what == "rows" else "none"
                yield over_seeds(what, where, published, measured[what], baseline="none", unit=what)
            for what in ("test", "uniform"):
                null, known = ([*measured.get(f"{of}, {what}", {}).values()] for of in ("null", "baseline"))
                yield over_seeds(
                    f"agreement, {what} rows",
                    where,
                    ">= 86.4 % (complete), >= 99.65 % (incomplete) on other data",
                    measured[what],
                    baseline=f"null {_percent(null)}, pool's true labels {_percent(known)}",
                    unit="share",
                )


def _test(pools: Mapping[str, Pool]) -> Pool:
    """Returns the complete rows that train nobody."""
    parts = [pools[role] for role in SPARE]
    x = np.concatenate([part.x for part in parts])
    y = np.concatenate([part.y for part in parts if part.y is not None])
    whole = ~np.isnan(x).any(axis=1)
    return Pool(x[whole], y[whole], parts[0].class_names, parts[0].missing, parts[0].features)


def _leaves(tree: Network) -> tuple[int, int]:
    """Returns the number of a tree's leaves, and of their answers in float32."""
    tensors = tree.tensors()
    left, value = tensors["left"].numpy(), tensors["value"].numpy()
    own: Array = value[left == np.arange(len(left))]
    answers = (own / own.sum(axis=1, keepdims=True)).astype(np.float32)
    return len(own), len(np.unique(answers, axis=0))


def _percent(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.median(known):.1%}" if known else "none"
