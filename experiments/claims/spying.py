"""Shared by the claims about membership inference: the division of rows, and attacks beside their null."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attacker.membership.membership import Membership
from experiments import metrics
from experiments.claims.claim import Finding, over_seeds
from experiments.lab import Lab
from experiments.null import blind, check
from experiments.parties import Server
from wire import Array
from zoo.data import Pool, roles
from zoo.network import Network

BLIND = "blind"


@dataclass(frozen=True)
class Division:
    """The rows of an experiment, drawn by a seed.

    Attributes:
        members: Rows that train the victim.
        others: As many rows that it does not see.
        shadow: The attacker's rows.
        candidates: Members and others, shuffled.
        member: Which of the candidates are members, ``(2 n,)`` bool.
        seed: The seed.
    """

    members: Pool
    others: Pool
    shadow: Pool
    candidates: Pool
    member: Array
    seed: int

    @classmethod
    def of(cls, pool: Pool, rows: int, shadow: int, seed: int) -> Division:
        """Draws a division: ``rows`` members, as many others, and ``shadow`` rows or as many as are left."""
        order = np.random.default_rng([seed, 13]).permutation(len(pool))
        members, others, rest = (pool.take(part) for part in np.split(order, [rows, 2 * rows]))
        candidates, member = roles.candidates(members, others, seed)
        return cls(members, others, rest.take(slice(shadow)), candidates, member, seed)

    @property
    def unrelated(self) -> Pool:
        """As many rows as the victim has, at most, of the attacker's: they train the model of the null."""
        return self.shadow.take(slice(len(self.members)))


def encoded(pool: Pool) -> Pool:
    """Returns a table as numbers for a network: categories one-hot, the rest from 0 to 1, missing ones 0."""
    columns = []
    for index, feature in enumerate(pool.features):
        values = pool.x[:, index]
        if feature.categories:
            columns.append((values[:, None] == np.arange(len(feature.categories))).astype(np.float32))
        else:
            low, high = np.nanmin(values), np.nanmax(values)
            columns.append(np.nan_to_num((values - low) / max(high - low, 1e-9))[:, None])
    return replace(pool, x=np.concatenate(columns, axis=1).astype(np.float32), missing=False, features=())


def spied(
    lab: Lab,
    server: Server,
    models: tuple[str, str],
    attacks: Mapping[str, Membership],
    division: Division,
    label: str,
) -> tuple[dict[str, dict[str, Any]], dict[str, Array]]:
    """Runs attacks on a victim and on a model without members.

    Args:
        lab: The laboratory.
        server: Serves both.
        models: The names of the victim and of the other model.
        attacks: The attacks by name.
        division: The rows.
        label: Part of the accounts' names.

    Returns:
        What each attack is worth, with its accuracy at its own threshold, and its scores of the null, by name.
    """
    worth: dict[str, dict[str, Any]] = {}
    empty: dict[str, Array] = {}
    for name, attack in attacks.items():
        scores = [
            lab.infer(
                server,
                model,
                re.sub(r"[^\w.-]+", "-", f"{label}-{name}-{model}"),
                attack,
                division.candidates,
                division.shadow,
                division.seed,
            )
            for model in models
        ]
        worth[name] = {
            **metrics.membership(scores[0], division.member, attack.threshold),
            **_accuracy(scores[0], attack, division),
        }
        empty[f"{label}: {name}"] = scores[1]
    return worth, empty


def checked(empty: Mapping[str, Array], division: Division) -> dict[str, float]:
    """Returns the areas of the null, and of the blind baseline.

    Raises:
        NullFailed: One of them tells members.
    """
    scores = {**empty, BLIND: blind(division.candidates.x, division.member)}
    return check(scores, division.member)


def entropy(probs: Array) -> Array:
    """Returns the entropy of distributions, ``(n, k)``, in units of the greatest, ``(n,)`` from 0 to 1.

    Source: Shokri et al., IEEE S&P 2017, section VI-C (prediction uncertainty).
    """
    p = probs.astype(np.float64)
    found: Array = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1) / np.log(probs.shape[1])
    return found


def accuracy(network: Network, pool: Pool) -> float:
    """Returns the share of labelled rows that a network labels correctly."""
    assert pool.y is not None
    return metrics.agreement(network.predict(pool.x).argmax(axis=1), pool.y).rate


def figures(
    what: str,
    setting: str,
    published: Mapping[str, str],
    worth: Mapping[int, Mapping[str, Any]],
    names: Iterable[str],
    baseline: str,
) -> list[Finding]:
    """Returns findings of what an attack is worth over seeds: one for each of the named figures.

    Args:
        what: The attack.
        setting: As in :class:`Finding`.
        published: By the name of a figure; "none" where there is none.
        worth: What came of each seed, by seed.
        names: The figures: ``auc``, ``accuracy``, ``precision``, ``recall``, or a rate such as ``0.01``.
        baseline: As in :class:`Finding`.
    """
    rows = []
    for name in names:
        values = {seed: _figure(of, name) for seed, of in worth.items()}
        unit = "" if name == "auc" else "share"
        title = f"TPR at {float(name):.1%} FPR" if name[0].isdigit() else name
        rows.append(
            over_seeds(
                f"{what}: {title}", setting, published.get(name, "none"), values, baseline=baseline, unit=unit
            )
        )
    return rows


def _figure(worth: Mapping[str, Any], name: str) -> float | None:
    if name[0].isdigit():
        return float(worth["tpr_at"][name].rate)
    value = worth.get(name)
    return getattr(value, "rate", value)


def _accuracy(scores: Array, attack: Membership, division: Division) -> dict[str, float]:
    if attack.threshold is None:
        return {}
    scored = ~np.isnan(scores)
    return {"accuracy": float(((scores > attack.threshold) == division.member)[scored].mean())}
