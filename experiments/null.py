"""Whether members and non-members of a membership experiment can be told apart without the victim.

Two tests, both mandatory. The null: every attack also asks a model that saw none of the candidates. The blind
baseline: a classifier of the rows alone. Where either finds anything, members and non-members were drawn
differently, or an attack is told who they are, and no figure of the experiment means anything.

Source: Das, Zhang, Tramèr, "Blind Baselines Beat Membership Inference Attacks for Foundation Models", 2024.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from experiments import metrics
from wire import Array

CONFIDENCE = 0.99  # a claim on three seeds makes three checks, and there are many claims


class NullFailed(Exception):
    """Members and non-members can be told apart without the victim."""


def blind(x: Array, member: Array, *, trees: int = 100, seed: int = 0) -> Array:
    """Returns the share of a forest's trees that call a row a member, ``(n,)``, for one half of the candidates.

    The forest is fitted to the other half, whose rows have NaN. Cross-validation would score all rows, but its
    scores depend on one another: where two rows are alike, each is in the forest that scores the other, and their
    labels count twice. The error of the area is then up to 1.4 times that of independent scores.

    Args:
        x: The candidates, ``(n, *input_shape)``.
        member: Which of them are members, ``(n,)`` bool; at least two on either side.
        trees: Number of trees.
        seed: Seed of the halves and of the forest.
    """
    rows, scores = np.nan_to_num(x.reshape(len(x), -1)), np.full(len(x), np.nan)
    fitted, judged = train_test_split(np.arange(len(x)), test_size=0.5, stratify=member, random_state=seed)
    forest = RandomForestClassifier(trees, min_samples_leaf=5, random_state=seed).fit(rows[fitted], member[fitted])
    scores[judged] = forest.predict_proba(rows[judged])[:, 1]
    return scores


def check(scores: Mapping[str, Array], member: Array) -> dict[str, float]:
    """Returns the areas under the ROC of scores that may tell nothing.

    Args:
        scores: The scores of the candidates, ``(n,)`` each, by a name; NaN without a score.
        member: Which candidates are members, ``(n,)`` bool.

    Raises:
        NullFailed: The interval of an area, at 99 % for all of them together, does not hold 1/2: so ends one fair
            run of a hundred.
    """
    areas, far = {}, []
    for name, found in scores.items():
        known = ~np.isnan(found)
        areas[name] = metrics.auc(found[known], member[known])
        members = int(member[known].sum())
        bound = metrics.null_bound(len(scores), members, int(known.sum()) - members, CONFIDENCE)
        if abs(areas[name] - 0.5) > bound:
            far.append(f"{name}: AUC {areas[name]:.3f}, which lies outside 0.5 ± {bound:.3f}")
    if far:
        told = "; ".join(far)
        raise NullFailed(
            f"members and non-members are told apart without the victim, so the candidates are biased: {told}"
        )
    return areas
