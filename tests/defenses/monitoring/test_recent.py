import numpy as np
import pytest

from defenses.monitoring.recent import _STEP, Recent
from defenses.monitoring.snapshots import dump


@pytest.mark.parametrize("window", [1, 7, 90, 1000])
def test_the_nearest_of_the_latest_rows_is_found(window):
    rng = np.random.default_rng(window)
    octets = rng.integers(125, 131, (900, 4)).astype(np.uint8)  # many are equally near
    senders = rng.integers(5, size=900)
    names = [f"a{i}" for i in senders]
    reference = rng.integers(0, 3, 900).astype("<f4")
    features = np.concatenate([octets, reference[:, None].view(np.uint8)], axis=1)

    def split(sizes):
        recent, found, at = Recent(), [], 0
        for size in sizes:
            found.append(recent.take(features[at : at + size], names[at : at + size], window))
            at += size
        assert at == 900 and recent.kept.count <= window + _STEP
        return recent, [np.concatenate(part) for part in zip(*found, strict=True)]

    whole, (ratios, copies, owners, own) = split([900])
    numbers = [whole.numbers[name] for name in names]
    assert own.tolist() == numbers and ratios[0] == np.inf and not copies[0]
    for i in range(1, 900):
        before = slice(max(0, i - window), i)
        squares = ((octets[before].astype(int) - octets[i]) ** 2).sum(axis=1)
        assert copies[i] == (squares.min() == 0)
        assert owners[i] == numbers[before][squares.argmin()]
        expected = np.sqrt(squares.min() / reference[i]) / 255 if reference[i] else np.inf
        assert ratios[i] == pytest.approx(expected, rel=1e-12)
    for sizes in ([1] * 900, [64] * 14 + [4], [300, 0, 1, 599]):
        other, found = split(sizes)
        np.testing.assert_array_equal(found, [ratios, copies, owners, own])
        assert dump(other) == dump(whole)
