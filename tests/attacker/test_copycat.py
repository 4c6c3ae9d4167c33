from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from reached import reach

from attacker.extraction.copycat import Copycat, balanced
from wire import BadInput
from zoo.data.pool import Pool
from zoo.network import Network


def test_labels_of_unrelated_images_steal(digits: Pool, victim: Network) -> None:
    mixed = (digits.x[:1400] + digits.x[1:1401, :, :, ::-1]) / 2  # two digits over one another, one mirrored
    oracle, record = reach(victim.predict, tells_probs=False, budget=1200)
    copy = Copycat("mlp", epochs=20, shift=0).extract(oracle, Pool(mixed), np.random.default_rng(0))
    assert oracle.spent == len({row.tobytes() for row in record.rows}) == 1200
    test = digits.x[1500:]
    agreement = (copy.predict(test).argmax(1) == victim.predict(test).argmax(1)).mean()
    constant = np.bincount(victim.predict(test).argmax(1)).max() / len(test)
    assert agreement > constant + 0.3


def test_rare_classes_are_repeated_evenly() -> None:
    labels = np.array([0] * 10 + [3] * 4 + [5])
    rows = balanced(labels, np.random.default_rng(0))
    assert np.bincount(labels[rows]).tolist() == [10, 0, 0, 10, 0, 10]
    assert sorted(np.bincount(rows, minlength=15)[10:14].tolist()) == [2, 2, 3, 3]
    assert (np.bincount(rows)[:10] == 1).all()


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"shift": -1}])
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="at least"):
        Copycat(**wrong)
