import asyncio
import json

import numpy as np
import pytest

from defenses import Prada, Sybils
from defenses.monitoring.reference import Reference
from experiments.studies import sybils, sybils_trial
from experiments.studies.split_theft import SplitTheft, split_over
from zoo.data import Pool


@pytest.fixture
def monitor(tmp_path):
    Pool(images(200, 0)).save(tmp_path / "reference.npz")
    return Sybils(tmp_path / "reference.npz", 0.6, share=0.02)


def images(n, seed):
    return np.random.default_rng(seed).integers(0, 256, (n, 1, 6, 6)).astype(np.float32) / np.float32(255)


def observed(monitor, x):
    labels = (x[:, 0, 0, 0] * 3.99).astype(np.int64)
    return asyncio.run(Reference(monitor.reference, x.shape[1:]).features(x, labels)), labels


def test_splits_give_each_row_a_key():
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=400)
    assert split_over("turns", labels, 3, rng).tolist() == [i % 3 for i in range(400)]
    assert set(split_over("random", labels, 7, rng)) == set(range(7))
    for k in (3, 4, 10):
        keys = split_over("class", labels, k, rng)
        assert set(keys) == set(range(k))
        owners = [set(keys[labels == label]) for label in range(4)]
        assert all(len(own) == 1 for own in owners) if k < 4 else sum(map(len, owners)) == k


def test_looking_for_neighbours_once_finds_whom_the_monitor_accuses(monitor):
    theft = images(40, 1)
    for _ in range(3):
        steps = np.random.default_rng(len(theft)).choice([-8, 8], theft.shape) / 255
        theft = np.concatenate([theft, (theft + steps).clip(0, 1).astype(np.float32)])
    theft = theft[np.random.default_rng(2).permutation(len(theft))]
    harmless = [observed(monitor, images(60, 10 + i)) for i in range(3)]
    dummies = observed(monitor, images(10, 3))
    stream = SplitTheft(np.random.default_rng(4), observed(monitor, theft), dummies, harmless, 0.0)
    figures = dict(stream.figures(monitor, Prada(0.0), (1, 4)))
    names = np.concatenate([np.arange(320) % 4, np.repeat([4, 5, 6], 60)])[stream.order]
    state = monitor.observe(monitor.begin(), stream.rows, stream.labels, [str(name) for name in names])
    thieves = [int(name) for name in state.alarms if int(name) < 4]
    of_turns = figures["turns", 4]
    assert of_turns["monitor"] == of_turns["either"] == len(thieves) / 4 > 0.7
    asked = sum(state.alarms[str(key)].row for key in thieves) + 80 * (4 - len(thieves))
    assert of_turns["monitor_asked"] == pytest.approx(asked / 320)
    assert of_turns["harmless_by_monitor"] == (len(state.alarms) - len(thieves)) / 3
    assert of_turns["prada"] == 0 and of_turns["prada_asked"] == 1
    assert figures["turns", 1]["monitor"] == 0 and figures["turns", 1]["own"] == 1


@pytest.mark.slow
def test_it_measures_and_tells(tmp_path, monkeypatch):
    small = sybils.Splits(
        "digits", "digits", (1, 4), (0.0, 0.5), 100, 2, 120, trained=200, epochs=2, window=200, share=0.05
    )
    monkeypatch.setattr(sybils_trial, "_OTHERS", 1)
    found = json.loads(json.dumps(small.run([0], None, tmp_path)))
    table = sybils.table(found)
    assert len(found["thefts"]) == 4 * 2 * 4  # attacks, shares of dummies, and 1 + 3 splits
    for row in found["thefts"]:
        assert max(row["prada"]["median"], row["monitor"]["median"]) <= row["either"]["median"] <= 1
        assert 0 < row["either_asked"]["median"] <= 1
    assert found["trials"]["0"]["harmless"]["same distribution"]["accounts"] == 2
    assert "knockoff, same distribution" in table and "own too" in table
