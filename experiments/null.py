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
from sklearn.model_selection import cross_val_predict

from experiments import metrics
from wire import Array


class NullFailed(Exception):
    """Members and non-members can be told apart without the victim."""


def blind(x: Array, member: Array, *, trees: int = 100, seed: int = 0) -> Array:
    """Returns the share of a forest's trees that call each row a member, ``(n,)``, in five-fold cross-validation.

    Args:
        x: The candidates, ``(n, *input_shape)``.
        member: Which of them are members, ``(n,)`` bool.
        trees: Number of trees.
        seed: Seed of the forest.
    """
    forest = RandomForestClassifier(trees, min_samples_leaf=5, random_state=seed)
    rows = np.nan_to_num(x.reshape(len(x), -1))
    return np.asarray(cross_val_predict(forest, rows, member, cv=5, method="predict_proba")[:, 1])


def check(scores: Mapping[str, Array], member: Array) -> dict[str, float]:
    """Returns the areas under the ROC of scores that may tell nothing.

    Args:
        scores: The scores of the candidates, ``(n,)`` each, by a name; NaN without a score.
        member: Which candidates are members, ``(n,)`` bool.

    Raises:
        NullFailed: The interval of an area, at 95 % for all of them together, does not hold 1/2.
    """
    areas, far = {}, []
    for name, found in scores.items():
        known = ~np.isnan(found)
        areas[name] = metrics.auc(found[known], member[known])
        members = int(member[known].sum())
        bound = metrics.null_bound(len(scores), members, int(known.sum()) - members)
        if abs(areas[name] - 0.5) > bound:
            far.append(f"{name}: AUC {areas[name]:.3f}, which lies outside 0.5 ± {bound:.3f}")
    if far:
        told = "; ".join(far)
        raise NullFailed(
            f"members and non-members are told apart without the victim, so the candidates are biased: {told}"
        )
    return areas
