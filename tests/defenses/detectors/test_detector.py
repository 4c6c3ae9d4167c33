"""What holds for every registered detector."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from sites import watching

from defenses import DETECTORS
from defenses.detectors.detector import CrossAccountDetector, Featurizer, LinkedDetector
from defenses.monitoring import account_state
from defenses.monitoring.reference import TAIL
from defenses.monitoring.snapshots import dump, load

each = pytest.mark.parametrize("cls", DETECTORS.values(), ids=DETECTORS)


def uncalibrated(cls):
    """One with the least that it needs."""
    paths = {field.name: Path("somewhere") for field in fields(cls) if field.type == "Path"}
    return cls(**paths, **cls.uncalibrated)


def observed(detector, n, seed=0):
    """The state after some rows of two accounts, or their features."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, 2, (n, 9), np.uint8) * np.uint8(255)
    accounts = [f"a{i % 2}" for i in range(n)]
    if isinstance(detector, LinkedDetector):
        unit = (rows / 765).astype(np.float32)  # features have a norm of at most 1
        return detector.observe(detector.begin(), unit, np.zeros(n, np.int64), accounts)
    if isinstance(detector, CrossAccountDetector):
        tails = np.ones((n, 1), "<f4").view(np.uint8)
        assert tails.shape[1] == TAIL
        rows = np.concatenate([rows, tails], axis=1)
        return detector.observe(detector.begin(), rows, np.zeros(n, np.int64), accounts)
    features = rows[:, 0] // 255 if isinstance(detector, Featurizer) else rows
    return detector.observe(detector.begin(), features, np.zeros(n, np.int64))


@each
def test_its_state_comes_back_from_a_snapshot(cls):
    detector = uncalibrated(cls)
    state = observed(detector, 300)
    again = load(detector.begin(), dump(state))
    assert dump(again) == dump(state) != dump(detector.begin())
    assert (again.rows, again.nbytes) == (state.rows, state.nbytes) and state.rows >= 256
    assert state.nbytes > detector.begin().nbytes


@each
def test_uncalibrated_it_raises_no_alarm(cls):
    detector = uncalibrated(cls)
    state = observed(detector, 600)
    assert not (state.alarms if isinstance(detector, CrossAccountDetector) else state.alarm)


@each
def test_a_state_of_other_fields_has_another_log(cls, monkeypatch):
    log = lambda: watching(uncalibrated(cls), "kind", None, None).account("a").log  # noqa: E731
    before = log()
    assert log() == before
    monkeypatch.setattr(account_state, "schema", lambda _: "another")
    assert log() != before
