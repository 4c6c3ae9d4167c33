import dataclasses

import numpy as np
import pytest
from scipy import stats

import owner.dataset_inference.dataset_inference
from owner import DatasetInference
from owner.dataset_inference.embeddings import Images
from owner.ownership import prove
from wire import Answer, BadInput, Card, Oracle, Refused, WireError
from zoo.data.pool import Pool

CARD = Card("m", (6,), 2, low=None, high=None)
SMALL = DatasetInference(
    fit_images=40, test_images=40, starts=2, uniform=0.02, gaussian=0.02, laplace=0.02, fit_steps=150, hidden=10
)


def pools(seed=0, n=100):
    """Two sides of well separated images; the first feature names them: even are private, odd are unseen."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, 6)).astype(np.float32) / 100
    x[:, 0] += 10 * np.arange(2 * n)
    y = rng.integers(0, 2, 2 * n)
    return Pool(x[::2], y[::2]), Pool(x[1::2], y[1::2])


def bubbles(private, unseen, private_radius, unseen_radius, seen=None):
    """A model that gives each image its true label within a radius of it, and the other label beyond."""
    x = np.stack([private.x, unseen.x], 1).reshape(-1, 6)
    y = np.stack([private.y, unseen.y], 1).reshape(-1)
    radius = np.stack([private_radius, unseen_radius], 1).reshape(-1)

    def transport(rows):
        image = np.rint(rows[:, 0] / 10).astype(int).clip(0, len(x) - 1)
        if seen is not None:
            seen.update(image.tolist())
        inside = np.linalg.norm(rows - x[image], axis=1) < radius[image]
        return Answer(np.where(inside, y[image], 1 - y[image]))

    return Oracle(transport, CARD)


def proven(suspect, victim, private, unseen, seed=1):
    return prove(SMALL, suspect, Images(victim, private, unseen), np.random.default_rng(seed))


def radii(rng, shift=0.0, n=100):
    return np.exp(rng.normal(-0.5 + shift, 0.5, n))


def test_a_member_signal_accuses():
    rng = np.random.default_rng(0)
    private, unseen = pools()
    victim = bubbles(private, unseen, radii(rng, 1.0), radii(rng))
    stolen = bubbles(private, unseen, radii(rng, 0.7), radii(rng))
    found = proven(stolen, victim, private, unseen)
    assert found.verdict == "accused" and found.p_value < 1e-4
    assert found.details.delta_mu > 0.3 and found.details.interval[0] > 0
    assert all(sides["private"] > sides["unseen"] for sides in found.details.suspect_walks.values())
    itself = bubbles(private, unseen, radii(rng, 1.0), radii(rng))
    assert proven(itself, victim, private, unseen).p_value < found.p_value


def test_a_reversed_signal_does_not_accuse():
    rng = np.random.default_rng(0)
    private, unseen = pools()
    victim = bubbles(private, unseen, radii(rng, 1.0), radii(rng))
    other = bubbles(private, unseen, radii(rng), radii(rng, 1.0))
    found = proven(other, victim, private, unseen)
    assert found.verdict == "inconclusive" and found.p_value > 0.99 and found.details.delta_mu < 0


def test_p_is_uniform_where_the_sides_are_exchangeable():
    rng = np.random.default_rng(11)
    private, unseen = pools()
    method = dataclasses.replace(SMALL, starts=1, walk_steps=30)
    study = method.prepare(Images(bubbles(private, unseen, radii(rng, 1.0), radii(rng)), private, unseen), rng)
    p = []
    for _ in range(100):
        suspect = bubbles(private, unseen, radii(rng), radii(rng))
        p.append(method.accuse(suspect, study, rng).p_value)
    assert stats.kstest(p, "uniform").pvalue > 0.05
    assert np.mean(np.array(p) < 0.05) < 0.12 and min(p) < 0.1 and max(p) > 0.9


def test_each_model_sees_only_its_own_images_and_every_row_is_counted():
    rng = np.random.default_rng(0)
    private, unseen = pools()
    shown, fitted = set(), set()
    victim = bubbles(private, unseen, radii(rng), radii(rng), fitted)
    suspect = bubbles(private, unseen, radii(rng), radii(rng), shown)
    found = proven(suspect, victim, private, unseen)
    assert len(shown) == len(fitted) == 80 and not shown & fitted
    assert len([image for image in shown if image % 2 == 0]) == found.details.samples_exposed == 40
    walks = found.details
    assert (found.suspect_queries, walks.victim_queries) == (suspect.spent, victim.spent)
    assert 0 < found.suspect_queries <= SMALL.most_rows().suspect == 2 * 40 * 2 * 3 * 50
    assert walks.victim_queries_before == 0 and walks.seed == 1
    assert found.settings == dataclasses.asdict(SMALL)
    assert (walks.private_sha256, walks.unseen_sha256) == (private.fingerprint, unseen.fingerprint)
    assert len(walks.private_scores) == len(walks.unseen_scores) == 40
    assert np.mean(walks.unseen_scores) - np.mean(walks.private_scores) == pytest.approx(walks.delta_mu)


def test_what_was_asked_before_is_not_counted_again():
    private, unseen = pools()
    rng = np.random.default_rng(0)
    model = bubbles(private, unseen, radii(rng), radii(rng))
    found = proven(model, model, private, unseen)  # the victim as its own suspect
    assert found.suspect_queries + found.details.victim_queries == model.spent


def test_features_belong_to_their_image_however_the_walks_are_mixed(monkeypatch):
    private, unseen = pools()
    wrong = np.where(np.arange(100) % 3, 1e-9, 1e9)  # a third never leaves its label, the others are wrong anyway
    oracle = bubbles(private, unseen, wrong, np.full(100, 1e-9))
    monkeypatch.setattr(owner.dataset_inference.dataset_inference, "BLOCK", 5000)
    features, others = SMALL.embed(oracle, private, unseen, np.random.default_rng(0))
    assert features.shape == others.shape == (100, 2, 3)
    far = features[:, :, 1] > others[:, :, 1].max()
    np.testing.assert_array_equal(far, np.tile((np.arange(100) % 3 == 0)[:, None], 2))


def test_the_same_seed_gives_the_same_evidence_and_a_kept_study_too(tmp_path):
    rng = np.random.default_rng(0)
    private, unseen = pools()
    victim = bubbles(private, unseen, radii(rng, 1.0), radii(rng))
    suspect = bubbles(private, unseen, radii(rng, 0.5), radii(rng))
    once, again = (proven(suspect, victim, private, unseen, 7) for _ in range(2))
    assert once == again

    study_rng, accuse_rng = np.random.default_rng(7).spawn(2)
    path, about, images = tmp_path / "features.npz", {"seed": 7}, Images(victim, private, unseen)
    SMALL.save_study(SMALL.prepare(images, study_rng), path, about)
    spent = victim.spent
    reused = SMALL.accuse(suspect, SMALL.load_study(path, images, about), accuse_rng)
    assert victim.spent == spent
    walks = reused.details
    assert (walks.victim_queries, walks.victim_queries_before) == (0, once.details.victim_queries)
    asked_anew = dataclasses.replace(walks, victim_queries=once.details.victim_queries, victim_queries_before=0)
    assert dataclasses.replace(reused, details=asked_anew) == once

    with pytest.raises(BadInput, match=r"made with seed 7 \(now 8\)"):
        SMALL.load_study(path, images, {"seed": 8})
    with pytest.raises(BadInput, match=r"made with starts 2 \(now 3\)"):
        dataclasses.replace(SMALL, starts=3).load_study(path, images, about)
    path.write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(BadInput, match=r"not a valid \.npz file of a victim's features"):
        SMALL.load_study(path, images, about)


def test_noise_is_scaled_with_the_range_of_the_card():
    asked = []

    def transport(x):
        asked.append(np.abs(x - 100.0).max())
        return Answer(np.ones(len(x), np.int64))

    pool = Pool(np.full((100, 6), 100.0, np.float32), np.zeros(100, np.int64))
    oracle = Oracle(transport, Card("m", (6,), 2, low=0.0, high=200.0))
    method = dataclasses.replace(SMALL, gaussian=1e-9, laplace=1e-9)
    method.embed(oracle, pool, pool, np.random.default_rng(0))
    assert max(asked) == pytest.approx(0.02 * 200, rel=0.01)


def test_a_model_that_stops_answering_is_told_with_what_was_spent():
    private, unseen = pools()

    def transport(x):
        if oracle.spent > 1000:
            raise Refused("the quota of 1,000 rows is used up", status=403)
        return Answer(np.zeros(len(x), np.int64))

    oracle = Oracle(transport, CARD)
    with pytest.raises(WireError, match=r"m stopped after 1\d\d\d answers: the quota of 1,000 rows") as caught:
        SMALL.embed(oracle, private, unseen, np.random.default_rng(0))
    assert isinstance(caught.value.__cause__, Refused)


@pytest.mark.parametrize(
    ("card", "change", "fault"),
    [
        (CARD, {"x": np.zeros((79, 6), np.float32), "y": np.zeros(79, np.int64)}, "79 rows, but 40 to fit and 40"),
        (CARD, {"y": None}, "no labels"),
        (dataclasses.replace(CARD, input_shape=(2, 3)), {}, r"shape \(6,\), but m takes \(2, 3\)"),
        (dataclasses.replace(CARD, low=0.0, high=1.0), {}, "features lie between .* but m takes 0 to 1"),
        (CARD, {"y": np.full(100, 2)}, "largest label is 2, but m has 2 classes"),
        (dataclasses.replace(CARD, dtype="UINT8"), {}, "takes UINT8"),
    ],
)
@pytest.mark.parametrize("side", [0, 1])
def test_what_does_not_fit_is_told_before_a_row_is_spent(card, change, fault, side):
    sides = list(pools())
    sides[side] = dataclasses.replace(sides[side], **change)
    victim, suspect = bubbles(*pools(), np.ones(100), np.ones(100)), Oracle(lambda x: pytest.fail("asked"), card)
    with pytest.raises(BadInput, match=fault):
        proven(suspect, victim, *sides)
    assert victim.spent == 0


@pytest.mark.parametrize(
    "wrong", [{"starts": 0}, {"test_images": 1}, {"laplace": 0.0}, {"alpha": 1.0}, {"lr": float("nan")}]
)
def test_settings_that_make_no_sense_are_told(wrong):
    with pytest.raises(BadInput, match=next(iter(wrong))):
        DatasetInference(**wrong)
