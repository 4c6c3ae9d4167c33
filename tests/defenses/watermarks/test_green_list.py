"""The green-list watermark: found in what was marked, and nowhere else."""

from itertools import pairwise

import numpy as np
import pytest

from defenses import GreenList
from defenses.watermarks.green_list import detect, green
from tests.generating import ask, bound
from tests.tiny_language import tiny
from wire import BadInput

V = 300


@pytest.fixture
def key(tmp_path):
    (tmp_path / "key").write_bytes(bytes(range(32)))
    return tmp_path / "key"


def written(layers, texts=40):
    prompts = [tiny().tokens.encode("The king")] * texts
    told = ask(tiny(), layers, prompts, max_tokens=16, temperature=1.5, seed=100)
    return [[one.token for one in each] for each in told]


def test_a_mark_is_found_by_its_key_alone(key):
    marked, plain = written(bound(GreenList(key, delta=3.0))), written([])
    found = detect(marked, key.read_bytes(), V)
    assert found.z > 6 and found.p < 1e-8 and found.green > 0.25 * found.pairs
    assert abs(detect(plain, key.read_bytes(), V).z) < 3.5
    wrong = [detect(marked, bytes([i]) * 32, V).z for i in range(20)]
    assert np.abs(wrong).max() < 4


def test_the_score_is_the_paper_s_and_pairs_count_once(key):
    lists = {previous: green(key.read_bytes(), previous, V, 0.25) for previous in range(V)}
    assert {int(listed.sum()) for listed in lists.values()} == {75}
    assert np.mean([(lists[1] & lists[n]).sum() for n in range(2, V)]) == pytest.approx(75 * 75 / V, rel=0.1)
    chosen = [1]
    for step in range(60):
        chosen.append(int(np.flatnonzero(lists[chosen[-1]])[step % 75]))
    pairs = set(pairwise(chosen))
    found = detect([chosen, chosen], key.read_bytes(), V)
    assert (found.pairs, found.green) == (len(pairs), len(pairs))
    assert found.z == pytest.approx(0.75 * len(pairs) / np.sqrt(len(pairs) * 0.25 * 0.75))
    assert found.p == pytest.approx(0.25 ** len(pairs))


def test_without_a_mark_z_is_normally_distributed(key):
    rng = np.random.default_rng(0)
    z = np.array([detect([rng.integers(0, V, 400)], key.read_bytes(), V).z for _ in range(60)])
    assert abs(z.mean()) < 0.5 and 0.7 < z.std() < 1.3


def test_a_key_that_is_missing_or_short_is_refused(tmp_path):
    with pytest.raises(BadInput, match="make a key with"):
        bound(GreenList(tmp_path / "none"))
    (tmp_path / "short").write_bytes(b"123")
    with pytest.raises(BadInput, match="16 to 64"):
        bound(GreenList(tmp_path / "short"))
    with pytest.raises(BadInput, match="two tokens"):
        detect([[3]], bytes(32), V)
