"""TRA: forests and boosted trees, region by region.

Source: Khouna, Ferry, Vidal, "From Counterfactuals to Trees: Competitive Analysis of Model Extraction Attacks",
NeurIPS 2025 (arXiv:2502.05325), the tree reconstruction attack, with the heuristic oracle of the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from attacker.asking import needs_probs
from attacker.extraction.boxes import Box, GrowingTree, joined_trees
from attacker.extraction.counterfactuals import Counterfactual, Counterfactuals
from attacker.extraction.leaf_search import Stopped
from attacker.surrogate import class_names
from wire import Array, BadInput, Labels, Oracle
from zoo.data.pool import Pool
from zoo.families.trees import Tree
from zoo.network import Network


class Region(NamedTuple):
    """A part of the space that is not known to have one answer.

    Attributes:
        node: Its leaf in the surrogate.
        box: Its box.
        rows: Rows in it that were answered, ``(n, d)``.
        answers: Their answers, ``(n,)``.
    """

    node: int
    box: Box
    rows: Array
    answers: Labels


@dataclass(frozen=True)
class Tra:
    """TRA: splits the space at counterfactuals until regions have one answer each (NeurIPS 2025).

    A counterfactual of a region is a row in it with another answer than its middle. The region is split at each
    feature in which the two differ, and the parts are searched in turn; a region without a counterfactual is a
    leaf of the surrogate, one tree that equals the whole forest.

    The paper's oracle is a service that explains its predictions, and proves that a region has no counterfactual.
    This API has no such service, so that rows stand in for it, as in one variant of the authors' code: random
    rows and corners of a region are asked about, and the nearest one with another answer is moved towards the
    middle one feature at a time. Without the proof, a region is a leaf once ``probes`` rows in it agree; when
    there is no other region left, all leaves are probed again, near the thresholds that were found since. What
    hides in a small part of a region can be missed. Regions are searched together, in few requests.

    Attributes:
        told: What makes two rows differ: labels, as in the paper, or any difference in their probabilities, which
            are then stolen too.
        probes: Rows of a region that must agree before it is a leaf.
        sweeps: How often all leaves are probed.
        tolerance: Distance to which a threshold is located, in units of a feature; 0 locates it in float32.
    """

    told: Literal["labels", "answers"] = "labels"
    probes: int = 64
    sweeps: int = 2
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        if min(self.probes, self.sweeps) < 1 or not 0 <= self.tolerance < np.inf:
            raise BadInput(f"{self}: probes and sweeps must be at least 1, tolerance at least 0 and finite")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Splits regions, round by round; rows of the pool are not used. See :class:`Extraction`.

        Raises:
            NotApplicable: Answers are to be told apart, and the model discloses labels only.
            BadInput: The range of a feature is not known.
        """
        if self.told == "answers":
            needs_probs(oracle.card)
        names = class_names(oracle.card)
        search = Counterfactuals(oracle, self.told, self.probes, self.tolerance, rng)
        tree = GrowingTree(len(names), search.most_codes)
        whole = Region(0, Box.whole(search.features), np.empty((0, search.features), np.float32), np.empty(0, int))
        regions, leaves, sweeps = [whole], list[Region](), self.sweeps
        try:
            while regions:
                own, counterfactuals, known = search.find(
                    [region.box for region in regions], [region[2:] for region in regions]
                )
                for region, answer in zip(regions, own.tolist(), strict=True):
                    tree.answer(region.node, search.value(answer, len(names)))
                searched = zip(regions, counterfactuals, known, strict=True)
                regions = []
                for region, found, (rows, answers) in searched:
                    region = region._replace(rows=rows, answers=answers)
                    if found is None:
                        leaves.append(region)
                    else:
                        regions += split(tree, region, found, search)
                if not regions and (sweeps := sweeps - 1):
                    regions, leaves = leaves, []
        except Stopped:
            pass  # the regions that were not searched keep the answer of the region around them
        card = replace(oracle.card, model="", trees=0, classes=len(names), class_names=names)
        return Tree().restore(card, joined_trees([tree]), device=None)


def split(tree: GrowingTree, region: Region, found: Counterfactual, search: Counterfactuals) -> Iterator[Region]:
    """Splits a region's node at each feature in which a counterfactual differs from the region's middle.

    Yields:
        The part on the middle's side of each split, and last the part around the counterfactual.
    """
    node, box, rows, answers = region
    for feature, threshold in found.ends.items():
        below, above = tree.split(node, feature, threshold)
        sides = (below, box.below(feature, threshold)), (above, box.above(feature, threshold))
        far = bool(found.row[feature] > threshold)
        part = rows[:, feature] > threshold
        yield Region(*sides[not far], rows[part != far], answers[part != far])
        (node, box), rows, answers = sides[far], rows[part == far], answers[part == far]
    for feature, code in found.codes.items():
        mine, others = tree.split_codes(node, feature, frozenset({code}))
        part = rows[:, feature] == code
        rest = box.codes.get(feature, search.codes[feature]) - {code}
        yield Region(others, box.among(feature, rest), rows[~part], answers[~part])
        node, box, rows, answers = mine, box.among(feature, frozenset({code})), rows[part], answers[part]
    yield Region(node, box, rows, answers)
