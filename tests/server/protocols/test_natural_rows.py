"""HODA and the out-of-distribution filter at a live API: a thief that sends natural images of another kind."""

import asyncio

import numpy as np
import pytest
from parts import Local
from sklearn.datasets import load_digits, load_sample_images

from defenses import Hoda, Ood
from defenses.detectors.hoda import hardness
from wire import BadInput, Refused
from wire.local import local_client
from zoo import folder
from zoo.data import Pool
from zoo.families.mlp import Mlp
from zoo.network import Network
from zoo.recipe import Recipe
from zoo.training import Training

NAMES = tuple("0123456789")
WATCHED = """
state = "state"
[plans.free]
[plans.admin]
admin = true
[[victims]]
name = "watched"
folder = "victim"
engine = "ENGINE"
max_rows = 64
defenses = [LAYER]
"""


@pytest.fixture(scope="module")
def digits():
    """Digits for the victim, for the calibration, and for who asks without harm."""
    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.target))
    x, y = (found.images[order, None] / 16).astype(np.float32), found.target[order].astype(np.int64)
    return [Pool(x[part], y[part], NAMES) for part in (slice(600), slice(600, 1400), slice(1400, None))]


@pytest.fixture(scope="module")
def patches():
    """Grey patches of two photographs."""
    rng, drawn = np.random.default_rng(0), []
    for image in load_sample_images().images:
        grey = image.mean(axis=2)[::4, ::4].astype(np.float32) / 255
        for top, left in rng.integers(0, [grey.shape[0] - 8, grey.shape[1] - 8], (700, 2)):
            drawn.append(grey[None, top : top + 8, left : left + 8])
    return np.array(drawn)[rng.permutation(len(drawn))]


@pytest.fixture(scope="module")
def models(digits, patches):
    """A victim with its checkpoints, and a filter that has seen some patches."""
    victim = Recipe(Mlp((32,)), Training(epochs=20, checkpoints=11)).train(digits[0], device="cpu")
    apart = digits[0].against(Pool(patches[:600]))
    return victim, Recipe(Mlp((32,)), Training(epochs=10)).train(apart, device="cpu")


def note(models, kind, x):
    victim, other = models
    labels = victim.predict(x).argmax(axis=1)
    if kind == "hoda":
        return hardness(victim.earlier().predict(x), labels), labels
    return other.predict(x).argmax(axis=1).astype(np.uint8), labels


@pytest.fixture
def served(config, models):
    """Returns a function that serves the victim behind a layer."""
    for name, model in zip(("victim", "filter"), models, strict=True):
        folder.save(model, config.parent / name)

    def with_layer(layer, engine="torch"):
        config.write_text(WATCHED.replace("LAYER", layer).replace("ENGINE", engine))
        return Local(config)

    return with_layer


def calibrated(blank, models, kind, benign):
    notes, labels = note(models, kind, benign)
    rng = np.random.default_rng(1)
    draws = [rng.integers(first, first + 400, (500, blank.rows)) for first in (0, 400)]
    chosen, held_out = ([(notes[rows], labels[rows]) for rows in some] for some in draws)
    return blank.calibrated(chosen, held_out, fpr=0.0)


@pytest.mark.parametrize("kind", ["hoda", "ood"])
def test_images_of_another_kind_are_found_and_the_victim_s_are_not(kind, served, config, models, digits, patches):
    path = config.parent / "filter"
    blank = Hoda(**Hoda.uncalibrated, rows=50) if kind == "hoda" else Ood(path, **Ood.uncalibrated, rows=50)
    detector, found = calibrated(blank, models, kind, digits[1].x)
    assert found.accused <= 0.05 * found.streams  # drawn from 400 rows that delta was not chosen on
    fields = f"benign = {list(detector.benign)}" if kind == "hoda" else f'folder = "{path}"'
    layer = f'{{ type = "{kind}", delta = {detector.delta!r}, rows = 50, reaction = "refuse", {fields} }}'
    server = served(layer, "torch" if kind == "hoda" else "auto")  # to export ten checkpoints takes seconds
    thief = patches[600:]
    expected = detector.observe(detector.begin(), *note(models, kind, thief)).alarm
    assert expected.row == 50
    with local_client(server.app) as server.client:
        bad, good = (server.endpoint("watched", "free", name) for name in ("bad", "good"))
        with pytest.raises(Refused, match="raised an alarm"):
            for at in range(0, len(thief), 25):
                bad(thief[at : at + 25])
        assert at == expected.row - 25  # the request with the alarm is the first one that is refused
        for at in range(0, len(digits[2].x), 25):
            good(digits[2].x[at : at + 25])
        (alarm,) = server.client.get("/admin/alarms", headers=server.headers("admin", "root")).json()
        assert (alarm["account"], alarm["detector"], alarm["row"]) == ("bad", kind, expected.row)
        assert alarm["statistic"] == pytest.approx(expected.statistic)


def test_the_filter_shuffles_what_is_told_of_other_rows(served, config, models, digits, patches):
    server = served(f'{{ type = "ood_filter", folder = "{config.parent / "filter"}" }}')
    with local_client(server.app) as server.client:
        endpoint = server.endpoint("watched", "free")
        for x in (digits[2].x[:60], patches[600:660]):
            answer, other = endpoint(x), note(models, "ood", x)[0] == 1
            same = np.isclose(answer.probs, models[0].predict(x), atol=1e-5).all(axis=1)
            np.testing.assert_array_equal(same[~other], True)
            assert other.mean() in (pytest.approx(0, abs=0.1), pytest.approx(1, abs=0.1))
            assert same[other].sum() <= 0.2 * other.sum()


def test_a_victim_without_checkpoints_and_a_filter_of_other_rows_are_refused_at_start(served, config, models):
    server = served('{ type = "hoda", delta = 0.1, benign = [0.7, 0.2, 0.1] }')
    with pytest.raises(BadInput, match="victim watched: hoda: the victim has 11 checkpoints"):
        asyncio.run(server.app.service.begin())
    narrow = Network.new(Mlp((4,)), (5,), ("own", "other"), seed=0, device="cpu")
    folder.save(narrow, config.parent / "filter")
    server = served(f'{{ type = "ood", delta = 0.1, folder = "{config.parent / "filter"}" }}')
    with pytest.raises(BadInput, match=r"filter: it takes rows \(5,\), and the victim \(1, 8, 8\)"):
        asyncio.run(server.app.service.begin())
    models[0].checkpoints, kept = (), models[0].checkpoints
    folder.save(models[0], config.parent / "victim")
    models[0].checkpoints = kept
    server = served('{ type = "hoda", delta = 0.1, benign = [0.7, 0.2, 0.1] }')
    with pytest.raises(BadInput, match=r"the network has no checkpoints; train it with --checkpoints 11"):
        asyncio.run(server.app.service.begin())
