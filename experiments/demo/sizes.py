"""How large an experiment is: the demo's reduced sizes, and the papers' own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from zoo.data import Pool


@dataclass(frozen=True)
class Protocol:
    """The sizes of one run of all parties.

    Attributes:
        name: What the report calls it.
        budgets: Budgets of the extraction attacks, in rows.
        quota: Rows a day that the label-only policy allows an account.
        candidates: Members to be told from as many non-members.
        shadows: Shadow models of the membership attack.
        shadow_rows: Rows that each of them is trained on.
        shadow_epochs: Passes of a shadow model over its rows.
        jbda_seeds: Rows that JbDA begins with.
        fit_images: Images of each side that fit the owner's regressor.
        test_images: Other images of each side, whose scores are tested.
        starts: Random starts of the blind walk, for each image and noise.
        independents: Independent models.
        independent_rows: Rows that each of them is trained on, drawn from the control role.
    """

    name: str
    budgets: tuple[int, ...]
    quota: int
    candidates: int
    shadows: int
    shadow_rows: int
    shadow_epochs: int
    jbda_seeds: int
    fit_images: int
    test_images: int
    starts: int
    independents: int
    independent_rows: int

    def fitted(self, roles: Mapping[str, Pool]) -> Protocol:
        """Returns the protocol cut down to what the roles hold, for small data sets."""
        images = min(len(roles["unseen"]), len(roles["victim"])) // 2
        budgets = [min(budget, len(roles["pool"])) for budget in self.budgets]
        return replace(
            self,
            budgets=tuple(sorted(set(budgets))),
            candidates=min(self.candidates, len(roles["evaluation"]), len(roles["victim"])),
            shadow_rows=min(self.shadow_rows, len(roles["shadow"]) // 2),
            jbda_seeds=min(self.jbda_seeds, len(roles["pool"])),
            fit_images=min(self.fit_images, images),
            test_images=min(self.test_images, images),
            independent_rows=min(self.independent_rows, len(roles["control"])),
        )


REDUCED = Protocol(
    name="reduced (demo)",
    budgets=(250, 1000, 4000),
    quota=2500,
    candidates=5000,
    shadows=4,
    shadow_rows=2500,
    shadow_epochs=30,
    jbda_seeds=150,
    fit_images=100,
    test_images=100,
    starts=4,
    independents=3,
    independent_rows=10_000,
)

FULL = Protocol(
    name="full (the papers' sizes, as far as the data goes)",
    budgets=(250, 1000, 4000, 9600),
    quota=2500,
    candidates=5000,
    shadows=20,
    shadow_rows=5000,
    shadow_epochs=100,
    jbda_seeds=150,
    fit_images=500,
    test_images=500,
    starts=10,
    independents=5,
    independent_rows=10_000,
)
