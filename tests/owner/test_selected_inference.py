import dataclasses

import numpy as np
import pytest
from scipy import stats

from owner.evidence import describe, load
from owner.selected_inference import Holdings, SelectedInference, permuted
from owner.twins.known import Known
from owner.twins.selection import Selected, Selection
from owner.twins.twins import Twins
from owner.twins.variants import variants
from owner.twins.weights import Hardness, hardness_of, learnt, most_telling, smoothing
from wire import Answer, BadInput, Card, Malformed, Oracle
from zoo.data.pool import Pool

N, PRIVATE = 1500, 1200
CARD = Card("suspect", (1,), 2, low=None, high=None)
SMALL = SelectedInference(images=30, candidates=300, permutations=999)
RNG = np.random.default_rng(0)


class World:
    """Images, each a number; a model is its table of log odds, which it raises for images that it knows."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.base = self.rng.normal(1, 1, N)
        self.gain = np.exp(self.rng.normal(0, 1, N)) / 2  # hard images gain more
        self.base -= self.gain
        x = np.arange(N, dtype=np.float32)[:, None]
        self.pool = Pool(x, np.ones(N, np.int64), ("a", "b"))
        self.twin_bits = np.stack([self.split() for _ in range(15)])
        self.theft_bits = self.twin_bits[:12]

    def split(self):
        bits = np.zeros(N, bool)
        bits[self.rng.permutation(N)[:PRIVATE]] = True
        return bits

    def table(self, bits, kept=1.0):
        return self.base + kept * self.gain * bits + self.rng.normal(0, 0.5, N)

    def known(self, settings=SMALL):
        def broken(x):
            raise AssertionError("the victim is not used")

        twins = Twins(
            models=[broken, *(predicting(self.table(bits)) for bits in self.twin_bits)],
            victim=0,
            card=CARD,
            reference=self.pool,
            root="00",
            settings={"selected-inference": settings.committed()},
        )
        thefts = [predicting(self.table(bits, 0.5)) for bits in self.theft_bits]
        return Known(twins, self.pool, PRIVATE, self.twin_bits, thefts, self.theft_bits, (1, 2))

    def victim_bits(self):
        return np.arange(N) < PRIVATE


def predicting(table):
    def predict(x):
        p = 1 / (1 + np.exp(-table[x[:, 0].astype(int)]))
        return np.stack([1 - p, p], axis=1)

    return predict


def oracle(table, asked=None, card=CARD):
    def answer(x):
        if asked is not None:
            asked.extend(x[:, 0].astype(int).tolist())
        probs = predicting(table)(x)
        return Answer(probs.argmax(axis=1), probs)

    return Oracle(answer, card)


def accuse(world, table, method=SMALL, **independent):
    holdings = Holdings(world.known(method), {name: oracle(t) for name, t in independent.items()})
    return method.accuse(oracle(table), method.prepare(holdings, RNG), RNG)


def test_a_theft_of_the_victim_is_accused_and_an_independent_model_is_not():
    world = World()
    found = accuse(world, world.table(world.victim_bits(), 0.5), honest=world.table(world.split(), 0.5))
    assert found.verdict == "accused" and found.p_value == 1 / 1000 and found.details.z > 3
    assert found.details.samples_exposed == 30 and found.suspect_queries == 60 == SMALL.most_rows().suspect
    assert found.details.independent_accused == 0 and "0 of 1 independent models" in describe(found)
    assert "exposed 30 private images" in describe(found)


def test_p_is_uniform_for_suspects_that_do_not_depend_on_the_division():
    world, p = World(1), []
    study = SMALL.prepare(Holdings(world.known(), {}), RNG)
    for _ in range(300):
        drawn = dataclasses.replace(study.selection, private=world.rng.permutation(study.selection.private))
        suspect = oracle(world.table(world.split()))
        p.append(SMALL.accuse(suspect, dataclasses.replace(study, selection=drawn), RNG).p_value)
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_chosen_images_betray_themselves_more_than_others():
    world = World()
    study = SMALL.prepare(Holdings(world.known(), {}), RNG)
    chosen = study.selection
    assert world.gain[chosen.images].mean() > 1.5 * world.gain.mean()
    assert chosen.private.sum() == 30 and len(set(chosen.images)) == 60
    np.testing.assert_array_equal(chosen.private, chosen.images < PRIVATE)
    assert not chosen.private[:30].all()  # in random order
    again = SMALL.prepare(Holdings(World().known(), {}), RNG).selection
    np.testing.assert_array_equal(chosen.images, again.images)


def test_the_suspect_is_asked_about_the_chosen_images_alone():
    world, asked = World(), []
    study = SMALL.prepare(Holdings(world.known(), {}), RNG)
    SMALL.accuse(oracle(world.table(world.split()), asked), study, RNG)
    assert asked == study.selection.images.tolist()


def test_tries_multiply_the_p_value():
    world = World()
    method = dataclasses.replace(SMALL, tries=11)
    found = accuse(world, world.table(world.victim_bits(), 0.5), method)
    assert found.p_value == pytest.approx(0.011) and found.verdict == "inconclusive"


# --- labels alone ------------------------------------------------------------------------------------------------


def test_the_signal_of_labels_grows_with_the_variants_that_keep_the_label():
    method = SelectedInference(labels=True, variants=30)
    x = np.random.default_rng(0).random((4, 1, 5, 5), np.float32)
    reference = Pool(np.random.default_rng(1).random((50, 1, 5, 5), np.float32))
    wrong = [0, 10, 20, 30]

    def ask(rows):
        labels = np.ones((4, 30), np.int64)
        for image, count in enumerate(wrong):
            labels[image, :count] = 0
        assert rows.shape == (120, 1, 5, 5)
        return Answer(labels.reshape(-1))

    signal = method.signal(ask, x, np.ones(4, np.int64), reference)
    np.testing.assert_allclose(signal, stats.norm.ppf((30 - np.array(wrong) + 0.5) / 31))


def test_variants_begin_with_the_image_and_depend_on_it_alone():
    x = np.random.default_rng(0).random((3, 1, 20, 20), np.float32)
    reference = Pool(np.random.default_rng(1).random((50, 1, 20, 20), np.float32))
    made = variants(x, reference, 31)
    assert made.shape == (93, 1, 20, 20) and made.min() >= 0 and made.max() <= 1
    np.testing.assert_array_equal(made[::31], x)
    np.testing.assert_array_equal(made[31:62], variants(x[1:2], reference, 31))
    distance = np.abs(made[:31] - x[0]).mean(axis=(1, 2, 3))
    assert distance[1:11].max() < distance[11:21].min() and (distance[21:] > 0.02).all()


# --- learning ----------------------------------------------------------------------------------------------------


def test_hardness_is_learnt_from_twins():
    world = World(2)
    signals = np.stack([world.table(bits) for bits in world.twin_bits])
    found = hardness_of(signals, world.twin_bits)
    assert np.corrcoef(found.dv, world.gain)[0, 1] > 0.7 and np.corrcoef(found.mo, world.base)[0, 1] > 0.9
    everybody = world.twin_bits.copy()
    everybody[:, 0] = True
    assert np.isfinite(hardness_of(signals, everybody)).all()


def test_weights_are_learnt_from_thefts():
    world = World(3)
    twins = np.stack([world.table(bits) for bits in world.twin_bits])
    thefts = np.stack([world.table(bits, 0.5) for bits in world.theft_bits])
    found = learnt(hardness_of(twins, world.twin_bits), thefts, world.theft_bits, PRIVATE / N)
    assert np.corrcoef(found.d, world.gain)[0, 1] > 0.6 and found.var.min() >= 0.3
    expected = world.base + 0.5 * world.gain * PRIVATE / N
    assert np.corrcoef(found.ex, expected)[0, 1] > 0.95
    best = most_telling(found, 100)
    assert len(best) == 100 and np.diff((found.d / np.sqrt(found.var))[best]).max() <= 0


def test_smoothing_keeps_a_quadratic_and_removes_noise():
    rng = np.random.default_rng(0)
    hardness = Hardness(rng.normal(size=5000), rng.normal(size=5000))
    truth = 1 + hardness.mo - 0.5 * hardness.dv**2
    np.testing.assert_allclose(smoothing(hardness, truth), truth, atol=1e-8)
    noisy = truth + rng.normal(size=5000)
    assert np.std(smoothing(hardness, noisy) - truth) < 0.25


@pytest.mark.parametrize(("u", "p"), [([9, 9, 9, 0, 0, 0], 1 / 20), ([0, 0, 0, 9, 9, 9], 1.0), ([1] * 6, 1.0)])
def test_p_is_the_share_of_divisions_that_are_as_great(u, p):
    found = permuted(np.array(u, float), np.array([1, 1, 1, 0, 0, 0], bool), 20_000)
    assert found.p == pytest.approx(p, abs=0.01) and np.isfinite(found.z)


# --- what cannot be done -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "fault"),
    [
        (dataclasses.replace(CARD, tells_probs=False), "suspect does not disclose all probabilities"),
        (dataclasses.replace(CARD, top_k=1), "suspect does not disclose all probabilities"),
        (dataclasses.replace(CARD, classes=3), "suspect has 3 classes"),
    ],
)
def test_a_suspect_that_does_not_fit_is_told_before_the_first_query(card, fault):
    with pytest.raises(BadInput, match=fault):
        SMALL.check(card, Holdings(World().known(), {}))


def test_settings_that_were_not_committed_to_are_refused():
    holdings = Holdings(World().known(), {})
    SMALL.check(CARD, holdings)
    with pytest.raises(BadInput, match="images is 31, but the study committed to 30"):
        dataclasses.replace(SMALL, images=31).check(CARD, holdings)


def test_withheld_probabilities_are_told():
    world = World()
    study = SMALL.prepare(Holdings(world.known(), {}), RNG)
    with pytest.raises(Malformed, match="withholds probabilities"):
        SMALL.accuse(Oracle(lambda x: Answer(np.ones(len(x), int)), CARD), study, RNG)


def test_too_few_candidates_are_told():
    with pytest.raises(BadInput, match=r"unseen images; expected at least 200 of each"):
        dataclasses.replace(SMALL, images=200).prepare(Holdings(World().known(), {}), RNG)


@pytest.mark.parametrize("wrong", [{"images": 1}, {"candidates": 1}, {"permutations": 9}, {"alpha": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(BadInput, match="must"):
        SelectedInference(**wrong)


def test_selection_and_evidence_come_back_from_their_files(tmp_path):
    world = World()
    holdings = Holdings(world.known(), {})
    study = SMALL.prepare(holdings, RNG)
    SMALL.save_study(study, tmp_path / "selection.npz", {})
    again = SMALL.load_study(tmp_path / "selection.npz", holdings, {})
    for name, value in vars(study.selection).items():
        np.testing.assert_array_equal(getattr(again.selection, name), value)
    with pytest.raises(BadInput, match="belongs to the commitment 00"):
        Selection.load(tmp_path / "selection.npz", "11")
    found = SMALL.accuse(oracle(world.table(world.split())), again, RNG)
    found.save(tmp_path / "evidence.json")
    assert load(tmp_path / "evidence.json", Selected) == found
