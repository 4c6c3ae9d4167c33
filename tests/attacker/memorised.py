"""A victim that memorised its rows, one that did not, and their candidates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from reached import Recorder, reach

from attacker.membership.membership import Membership
from wire import Array, Oracle
from zoo.data.pool import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.training import Training

SIZE = 300
"""Number of rows that the victims were trained on, and of non-members among the candidates."""

MEMBER = np.arange(2 * SIZE) < SIZE
EPOCHS = 60
SETTINGS: dict[str, Any] = {"references": 8, "family": "mlp", "lr": 5e-3, "epochs": (EPOCHS,), "population": 300}


def mislabelled(digits: Pool) -> Pool:
    """Returns the digits, of which a fifth has a wrong label: a model that fits these has memorised them."""
    assert digits.y is not None
    rng = np.random.default_rng(7)
    wrong = rng.random(len(digits)) < 0.2
    return Pool(digits.x, np.where(wrong, rng.integers(10, size=len(digits)), digits.y), digits.class_names)


def memorising(rows: Pool) -> Network:
    """Returns a victim that memorised the first rows."""
    return _trained(rows.take(slice(SIZE)), Mlp(), EPOCHS)


def ignorant(rows: Pool) -> Network:
    """Returns a model that saw neither candidates nor the shadow pool."""
    return _trained(rows.take(slice(1400, None)), Mlp(), 10)


def _trained(rows: Pool, family: Mlp, epochs: int) -> Network:
    assert rows.y is not None
    network = Network.new(family, rows.input_shape, rows.class_names, seed=3)
    return network.fit(rows.x, rows.y, Training(epochs, lr=5e-3), seed=3)


def oracle_of(victim: Network, policy: str = "full") -> tuple[Oracle, Recorder]:
    """Returns an oracle that tells everything, three noisy and rounded probabilities, or labels."""
    if policy != "noisy":
        return reach(victim.predict, max_rows=256, tells_probs=policy == "full")
    rng = np.random.default_rng(5)

    def blurred(x: Array) -> Array:
        probs = np.maximum(victim.predict(x) + rng.normal(0, 0.05, (len(x), 10)), 0)
        return (probs / probs.sum(axis=1, keepdims=True)).round(2)

    oracle, recorder = reach(blurred, max_rows=256, top_k=3)
    oracle.card = replace(oracle.card, noise=0.05, digits=2, top_k=3)
    return oracle, recorder


def spied(attack: Membership, victim: Network, rows: Pool, policy: str = "full", seed: int = 0) -> Array:
    """Returns the scores of the candidates; the shadow pool is rows 600 to 1400."""
    candidates, shadow = rows.take(slice(2 * SIZE)), rows.take(slice(2 * SIZE, 1400))
    assert candidates.y is not None
    return attack.infer(
        oracle_of(victim, policy)[0], candidates.x, candidates.y, shadow, np.random.default_rng(seed)
    )


def settings(state: Path, **changed: Any) -> dict[str, Any]:
    return {**SETTINGS, "state": state, **changed}
