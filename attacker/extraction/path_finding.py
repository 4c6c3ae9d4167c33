"""Path-finding: the attack on decision trees.

Source: Tramèr, Zhang, Juels, Reiter, Ristenpart, "Stealing Machine Learning Models via Prediction APIs", USENIX
Security 2016, section 4.2 (algorithm 1, and the top-down variant with incomplete queries).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from attacker.asking import NotApplicable, needs_probs
from attacker.extraction.boxes import Box, GrowingTree, joined_trees
from attacker.extraction.leaf_search import LeafSearch, Stopped
from attacker.extraction.leaf_values import summed
from attacker.surrogate import class_names
from wire import Array, BadInput, Oracle
from zoo.data.pool import Pool
from zoo.families.trees import Tree
from zoo.network import Network


@dataclass(frozen=True)
class PathFinding:
    """Path-finding: finds the leaves of a decision tree by their answers (USENIX Security 2016).

    Where answers tell leaves, as some services do, these are what is searched, and a forest or boosted trees are
    found tree by tree; what each leaf adds is then solved for. Elsewhere an answer's probabilities serve as the
    identity of the leaf that gave it, so leaves must have different answers. From a row in an unknown leaf, each
    feature is varied alone: where the answer changes, the leaf ends, and the end is located by bisection, or, for
    a category, by trying all of its codes. What lies beyond the ends is searched next.

    With incomplete rows, the search goes from the top down: where a row that lacks a node's feature gets that
    node's own answer, the feature whose value changes the answer is the node's, and only features on the path to a
    leaf are varied. The model must stop at such nodes, as BigML's did; one that treats missing features in another
    way is not found.

    The paper searches one leaf after another, and keeps the leaves as a list of rules. Here, the leaves of a round
    are searched together, which takes hundreds of requests rather than thousands, and what is beyond a leaf is a
    region of its own, so that the rules form a tree and no part of the space is left out.

    Attributes:
        rows: Whether rows are complete, or lack the features that the search has not reached.
        tolerance: Distance to which the end of a leaf is located, in units of a feature.
    """

    rows: Literal["complete", "incomplete"] = "complete"
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance < np.inf:
            raise BadInput(f"{self}: tolerance must be at least 0 and finite")

    def extract(self, oracle: Oracle, pool: Pool, rng: np.random.Generator) -> Network:
        """Searches the leaves, round by round; see :class:`Extraction`.

        Raises:
            NotApplicable: The model discloses labels only, or incomplete rows are refused.
            BadInput: The range of a feature is not known.
        """
        needs_probs(oracle.card)
        incomplete = self.rows == "incomplete"
        if incomplete and not oracle.card.missing:
            raise NotApplicable("no feature may be missing")
        names = class_names(oracle.card)
        card = replace(oracle.card, model="", classes=len(names), class_names=names)
        search = LeafSearch(oracle, self.tolerance)
        trees = list[GrowingTree]()
        for search.tree in range(max(1, oracle.card.trees)):
            trees.append(GrowingTree(len(names), search.most_codes))
            if not self._search(search, trees[-1], incomplete):
                break  # the trees that were not searched are missing
        tensors = joined_trees(trees)
        if len(trees) > 1:
            return summed(tensors, [tree.leaves for tree in trees], *search.answered(), card)
        return Tree().restore(card, tensors, device=None)

    def _search(self, search: LeafSearch, tree: GrowingTree, incomplete: bool) -> bool:
        """Searches the leaves of one tree; returns False if the victim stopped answering."""
        regions = [(0, Box.whole(search.features))]
        leaves: dict[bytes, list[Box]] = {}

        def leaf(answer: bytes, row: Array) -> Box | None:
            return next((box for box in leaves.get(answer, ()) if box.holds(row)), None)

        try:
            while regions:
                rows = np.stack([search.inside(box) for _, box in regions])
                paths = [[*range(search.features)] for _ in regions]
                if incomplete:
                    rows, answers, paths = search.descend(rows)
                else:
                    answers = search.ask(rows)
                fresh = {a: k for k, a in reversed([*enumerate(answers)]) if leaf(a, rows[k]) is None}
                for answer, box in zip(fresh, search.leaves(rows, answers, [*fresh.values()]), strict=True):
                    leaves.setdefault(answer, []).append(box)
                beyond = list[tuple[int, Box]]()
                for region, row, answer, path in zip(regions, rows, answers, paths, strict=True):
                    found = leaf(answer, row)
                    tree.answer(region[0], search.probs(answer), search.leaf(answer))
                    beyond += [region] if found is None else peel(tree, region, found, path, search.codes)
                regions = [region for region in beyond if search.wide(region[1])]
        except Stopped:
            return False  # the regions that were not searched keep the answer beside them
        return True


def peel(
    tree: GrowingTree,
    region: tuple[int, Box],
    leaf: Box,
    order: Sequence[int],
    every: Mapping[int, frozenset[int]],
) -> list[tuple[int, Box]]:
    """Splits a region's node along the faces of a leaf of the victim.

    Args:
        tree: The tree, in which the region is a leaf.
        region: The region's node, and its box.
        leaf: The box of the victim's leaf, which overlaps with the region.
        order: Order of the features, those nearest to the victim's root first if that is known.
        every: All codes of each category.

    Returns:
        The nodes and the boxes of the parts outside the victim's leaf.
    """
    (node, box), outside = region, list[tuple[int, Box]]()
    for feature in order:
        low, high = float(leaf.low[feature]), float(leaf.high[feature])
        if low > box.low[feature]:
            beside, node = tree.split(node, feature, low)
            outside.append((beside, box.below(feature, low)))
            box = box.above(feature, low)
        if high < box.high[feature]:
            node, beside = tree.split(node, feature, high)
            outside.append((beside, box.above(feature, high)))
            box = box.below(feature, high)
        codes = leaf.codes.get(feature)
        if codes is not None and (others := box.codes.get(feature, every[feature]) - codes):
            node, beside = tree.split_codes(node, feature, codes)
            outside.append((beside, box.among(feature, others)))
            box = box.among(feature, codes)
    return outside
