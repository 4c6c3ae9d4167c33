"""Sizes of a demo: reduced ones, and the papers' own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from zoo.data import Pool


@dataclass(frozen=True)
class Protocol:
    """The sizes of one run of all parties.

    Attributes:
        name: Its name in the report.
        family: Family of the victim, its twins and all independent models.
        batch: Rows per step of their training.
        budgets: Budgets of the extraction attacks, in rows, rising.
        every_budget: Extraction attacks that run at every budget; the others run at the middle one.
        settings: Settings of the attacks by name; the others run with their defaults.
        quota: Rows that the policy "labels" allows an account in a day.
        candidates: Members among the candidates of the membership attacks, and as many non-members.
        twins: Twins of the victim, which the owner trains for the twin test.
        controls: Independent models with which the owner compares every suspect.
        independents: Further independent models, tested as suspects.
        independent_rows: Rows that train each of both, drawn from the control role.
        walked: Independent models that dataset inference tests too, at most.
        fit_images: Images of each side that fit dataset inference's regressor.
        test_images: Further images of each side, whose scores are tested.
        starts: Random starts of the blind walk, for each image and noise.
    """

    name: str
    family: str
    batch: int
    budgets: tuple[int, ...]
    every_budget: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]]
    quota: int
    candidates: int
    twins: int
    controls: int
    independents: int
    independent_rows: int
    walked: int
    fit_images: int
    test_images: int
    starts: int

    def fitted(self, roles: Mapping[str, Pool]) -> Protocol:
        """Returns the protocol cut down to the rows of the roles, for small data sets."""
        images = min(len(roles["unseen"]), len(roles["victim"])) // 2
        budgets = [min(budget, len(roles["pool"])) for budget in self.budgets]
        return replace(
            self,
            budgets=tuple(sorted(set(budgets))),
            candidates=min(self.candidates, len(roles["evaluation"]), len(roles["victim"])),
            fit_images=min(self.fit_images, images),
            test_images=min(self.test_images, images),
            independent_rows=min(self.independent_rows, len(roles["control"])),
        )


# The victim is an MLP, since sixteen CNNs alone would take the demo's time. Its thieves are told its family.
REDUCED = Protocol(
    name="reduced (demo)",
    family="mlp",
    batch=128,
    budgets=(250, 1000, 4000),
    every_budget=("knockoff", "jbda"),
    settings={
        "knockoff": {"family": "mlp"},
        "jbda": {"family": "mlp", "seeds": 150},
        "t-rnd": {"family": "mlp", "lrs": (1e-3,), "epochs": (10, 20)},
        "line-search": {"family": "mlp", "points": 500},
        "retraining": {"family": "mlp"},
        "active-thief": {"family": "mlp", "epochs": 200, "early_stopping": 20},
        "copycat": {"family": "mlp"},
        "data-free": {"family": "mlp"},
        "mixmatch": {"family": "mlp", "steps": 500},
        "dfms-hl": {"family": "mlp", "shapes": 1000, "gan_epochs": 1, "width": 16},
        "informed": {"family": "mlp"},
        "shadow": {"family": "mlp", "references": 4},
        "label-only": {"family": "mlp", "references": 8, "queries": 2},
        "blind-walk": {"family": "mlp", "references": 8, "walks": 1, "steps": 2},
        "lira": {"family": "mlp", "references": 8},
        "rmia": {"family": "mlp", "references": 8},
        "threshold": {"family": "mlp"},
        "union": {"family": "mlp", "references": 8},
        "quantile": {"family": "mlp", "epochs": 4, "population": 2500},
        "imia": {"family": "mlp", "warm_up": 2, "imitation": 3, "memorising": 3},
    },
    quota=2500,
    candidates=5000,
    twins=15,
    controls=8,
    independents=8,
    independent_rows=8000,
    walked=3,
    fit_images=100,
    test_images=100,
    starts=4,
)

FULL = Protocol(
    name="full (the papers' sizes, as far as the data goes)",
    family="cnn",
    batch=64,
    budgets=(250, 1000, 4000, 9600),
    every_budget=("knockoff", "jbda"),
    settings={
        "jbda": {"seeds": 150},
        "line-search": {"points": 2000},
        "shadow": {"references": 4, "epochs": (4, 8, 16)},
        "label-only": {"epochs": (4, 8, 16)},
        "blind-walk": {"epochs": (4, 8, 16)},
        "lira": {"epochs": (4, 8, 16)},
        "rmia": {"epochs": (4, 8, 16), "population": 2500},
        "threshold": {"epochs": (4, 8, 16)},
        "union": {"epochs": (4, 8, 16), "population": 2500},
    },
    quota=2500,
    candidates=5000,
    twins=31,
    controls=8,
    independents=12,
    independent_rows=8000,
    walked=5,
    fit_images=500,
    test_images=500,
    starts=10,
)
