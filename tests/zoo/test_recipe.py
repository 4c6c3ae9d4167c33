import dataclasses
import subprocess
import sys

import numpy as np
import pytest

from wire import BadInput
from zoo import recipe
from zoo.data import Pool
from zoo.families.cnn import Cnn
from zoo.families.logistic import Softmax
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.recipe import Recipe, trained
from zoo.training import Training

RECIPE = Recipe(Mlp(hidden=(8,)), Training(epochs=1), seed=1)


def pool(seed=0):
    rng = np.random.default_rng(seed)
    return Pool(rng.random((30, 4), dtype=np.float32), rng.integers(0, 2, 30), ("a", "b"))


@pytest.fixture
def fits(monkeypatch):
    """Counts the networks that are trained."""
    seeds = []
    fit = Network.fit

    def counted(self, *arguments, seed, **options):
        seeds.append(seed)
        return fit(self, *arguments, seed=seed, **options)

    monkeypatch.setattr(Network, "fit", counted)
    return seeds


def test_a_second_call_loads(tmp_path, fits):
    first, second = (trained(RECIPE, pool(), tmp_path) for _ in range(2))
    assert fits == [1]
    np.testing.assert_array_equal(first.predict(pool().x), second.predict(pool().x))
    assert second.training == RECIPE.training


def test_what_is_kept_is_what_the_recipe_trains(tmp_path):
    np.testing.assert_array_equal(
        trained(RECIPE, pool(), tmp_path).predict(pool().x), RECIPE.train(pool()).predict(pool().x)
    )


def test_whatever_changes_the_network_changes_the_key(monkeypatch):
    rows = pool()
    keys = [RECIPE.key(rows)]
    for change in (
        {"family": Mlp(hidden=(9,))},
        {"family": Softmax()},
        {"family": Cnn()},
        {"training": Training(epochs=2)},
        {"training": Training(epochs=1, lr=0.1)},
        {"seed": 2},
    ):
        keys.append(dataclasses.replace(RECIPE, **change).key(rows))
    keys += [RECIPE.key(pool(seed=1)), RECIPE.key(rows.take(slice(20)))]
    keys.append(RECIPE.key(Pool(rows.x, 1 - rows.y, rows.class_names)))
    monkeypatch.setattr(recipe, "VERSION", 0)
    keys.append(RECIPE.key(rows))
    assert len(set(keys)) == 11


def test_other_rows_are_trained_on(tmp_path, fits):
    trained(RECIPE, pool(), tmp_path)
    trained(RECIPE, pool(seed=1), tmp_path)
    trained(dataclasses.replace(RECIPE, seed=2), pool(), tmp_path)
    assert fits == [1, 1, 2]


def test_an_interrupted_training_leaves_nothing(tmp_path, fits, monkeypatch):
    def interrupted(network, path, **about):
        (path / "weights.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recipe.folder, "save", interrupted)
        trained(RECIPE, pool(), tmp_path)
    assert list((tmp_path / "models").glob("[!.]*")) == []
    trained(RECIPE, pool(), tmp_path)
    assert fits == [1, 1]


def test_what_was_broken_since_is_named(tmp_path):
    trained(RECIPE, pool(), tmp_path)
    (kept,) = (tmp_path / "models").iterdir()
    (kept / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BadInput, match="SHA-256"):
        trained(RECIPE, pool(), tmp_path)


def test_rows_without_labels_train_nothing(tmp_path):
    with pytest.raises(BadInput, match="no labels"):
        trained(RECIPE, Pool(pool().x, None, ("a", "b")), tmp_path)


MAKER = """
import logging, sys, time
from pathlib import Path
from zoo.cache import once

def make(path):
    (path / sys.argv[2]).touch()
    print("begun", flush=True)
    time.sleep(float(sys.argv[3]))

logging.basicConfig(level=logging.INFO)
once(Path(sys.argv[1]), make)
"""


def test_of_several_processes_one_makes_a_folder_and_another_takes_over_if_it_is_killed(tmp_path):
    def maker(name, seconds):
        command = [sys.executable, "-c", MAKER, str(tmp_path / "folder"), name, str(seconds)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    first = maker("first", 60)
    try:
        assert first.stdout.readline() == "begun\n"
        others = [maker(name, 0.2) for name in ("second", "third")]
        waiting = [other.stderr.readline() for other in others]
        assert all("another process is making" in line and "folder; waiting" in line for line in waiting)
        assert [other.poll() for other in others] == [None, None]
    finally:
        first.kill()
        first.communicate()
    said = [other.communicate(timeout=30)[0] for other in others]
    assert [other.returncode for other in others] == [0, 0]
    assert sorted(said) == ["", "begun\n"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert [path.name for path in (tmp_path / "folder").iterdir()] == [("second", "third")[said.index("begun\n")]]
