"""The twin test about the rows that an account asked about, which the owner's server has logged.

A thief trains on the victim's answers about these rows, so a copy remembers them; near any other row it has only
learnt something like them. The rows were chosen before any of the answers, so they favour no model of the lottery,
and the victim's rank stays exact. That is not so where the thief chose rows by earlier answers, as JbDA or
ActiveThief do: such rows lie where the victim, and no twin, is unsure. Nor is it so for rows that the owner put
into the log himself, so a judge needs to know whose account it was.

Source: this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.studies.evasions import Predict
from experiments.studies.lottery import Lottery
from experiments.studies.suspects import labels_of
from owner.twin_test import TwinTest, dispute
from wire import Array


def about_rows(lottery: Lottery, x: Array) -> Lottery:
    """Returns the lottery with other queries: those of some rows about which its models disagree most."""
    probs = np.stack([model.predict(x) for model in lottery.models])
    disputed = dispute(probs.argmax(axis=2), probs.shape[2])
    chosen = np.argsort(-disputed, kind="stable")[: min(TwinTest().rows, np.count_nonzero(disputed))]
    return Lottery(lottery.models, x[chosen], len(chosen), probs[:, chosen])


def logged(
    lottery: Lottery, x: Array, victim: int, theft: Predict, innocent: Sequence[Predict], known: Sequence[Predict]
) -> dict[str, Any]:
    """Compares a theft and models that have nothing to do with the victim, by the rows of the thief's account.

    Args:
        lottery: The victim with its twins.
        x: The rows, ``(n, ...)``.
        victim: Number of the victim.
        theft: The stolen model.
        innocent: Models that have nothing to do with the victim.
        known: The judge's models.
    """
    here = about_rows(lottery, x)
    (own,), others, judges = (here.z(of) for of in ([theft], innocent, known))
    return {
        "queries": here.chosen,
        "z": round(float(own[victim]), 2),
        "rank": 1 + int((own > own[victim]).sum()),
        "remembered": round(float((labels_of(theft, x) == lottery.models[victim].predict(x).argmax(1)).mean()), 4),
        "controls": np.round(judges[:, victim], 2).tolist(),
        "innocent": np.round(others[:, victim], 2).tolist(),
        "first": int((others.argmax(axis=1) == victim).sum()),
    }
