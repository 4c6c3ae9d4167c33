import asyncio

import numpy as np
import pytest
from scipy import stats
from sites import KEY, ask, bound, site

from defenses import (
    GaussianNoise,
    LabelFlips,
    LabelOnly,
    LaplaceNoise,
    ReverseSigmoid,
    Rounding,
    RowWise,
    Temperature,
    TopK,
)
from wire import Answer, BadInput

PROBS = np.array([[0.5, 0.25, 0.15, 0.0875, 0.0125], [0.1, 0.2, 0.3, 0.2, 0.2]], np.float32)
X = np.random.default_rng(0).random((500, 4), np.float32)
NOISE = GaussianNoise(0.1)


def through(*defenses, probs=PROBS, x=None):
    x = X[: len(probs)] if x is None else x
    return asyncio.run(ask(bound(*defenses, at=site()), x, probs))


def test_the_full_vector_is_told_unchanged():
    answer = through()
    np.testing.assert_array_equal(answer.probs, PROBS)
    np.testing.assert_array_equal(answer.labels, [0, 2])


def test_top_k_withholds_the_rest():
    answer = through(TopK(2))
    kept = [[1, 1, np.nan, np.nan, np.nan], [np.nan, 1, 1, np.nan, np.nan]]  # of two that are equal, the first
    np.testing.assert_array_equal(answer.probs, PROBS * np.float32(kept))
    np.testing.assert_array_equal(through(TopK(7)).probs, PROBS)


def test_top_k_takes_the_lower_of_many_equal_classes():
    probs = np.tile(np.float32([0.002, 0.006, 0.002]), (3, 100))
    told = through(TopK(150), probs=probs).probs
    assert np.flatnonzero(~np.isnan(told[1])).tolist() == sorted(
        [*range(1, 300, 3), *range(0, 75, 3), *range(2, 75, 3)]
    )


def test_label_only_tells_labels():
    answer = through(LabelOnly())
    assert answer.probs is None
    np.testing.assert_array_equal(answer.labels, [0, 2])


def test_rounding_keeps_so_many_digits():
    np.testing.assert_array_equal(through(Rounding(1)).probs[0], np.float32([0.5, 0.2, 0.2, 0.1, 0.0]))


def test_temperature_divides_the_logits():
    told = through(Temperature(2.0)).probs
    expected = np.sqrt(PROBS) / np.sqrt(PROBS).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(told, expected, rtol=1e-6)
    np.testing.assert_allclose(through(Temperature(1.0)).probs, PROBS, rtol=1e-6)


@pytest.mark.parametrize("temperature", [5e-324, 1e-3, 2.0, 1e308])
def test_temperature_takes_a_probability_of_zero(temperature):
    told = through(Temperature(temperature), probs=np.float32([[1, 0, 0, 0, 0]])).probs
    np.testing.assert_array_equal(told, [[1, 0, 0, 0, 0]])


def test_what_a_layer_is_given_stays_as_it_was():
    probs = np.random.default_rng(2).dirichlet(np.ones(5), 50).astype(np.float32)
    before = probs.copy()
    for layer in (
        *(TopK(2), Rounding(1), Temperature(2.0), NOISE, LaplaceNoise(0.1)),
        *(ReverseSigmoid(0.1, 0.2), LabelFlips(1.0)),
    ):
        assert not np.array_equal(through(layer, probs=probs).probs, probs)
        np.testing.assert_array_equal(probs, before)


@pytest.mark.parametrize(
    "make",
    [
        lambda: GaussianNoise(0),
        lambda: LaplaceNoise(-1),
        lambda: ReverseSigmoid(2, 1),
        lambda: ReverseSigmoid(0.1, 0),
        lambda: LabelFlips(0),
        lambda: LabelFlips(1.1),
        lambda: TopK(0),
        lambda: Rounding(-1),
        lambda: Rounding(9),
        lambda: Temperature(0.0),
        lambda: Temperature(float("nan")),
    ],
)
def test_knobs_that_make_no_sense_are_refused(make):
    with pytest.raises(BadInput, match=r"must (be positive|be at least|lie between)"):
        make()


def test_asking_twice_averages_nothing_away():
    probs = np.full((500, 5), 0.2, np.float32)
    first, again = through(NOISE, probs=probs), through(NOISE, probs=probs)
    np.testing.assert_array_equal(first.probs, again.probs)
    assert len(np.unique(first.probs[:, 0])) > 450


@pytest.mark.parametrize(
    ("defense", "expected"),
    [
        (GaussianNoise(0.3), stats.norm(scale=0.3)),
        (LaplaceNoise(0.3), stats.laplace(scale=0.3)),
    ],
)
def test_noise_has_its_distribution_and_scale(defense, expected):
    noise = defense.noise(KEY, np.random.default_rng(1).random((2000, 4)), 5)
    assert stats.kstest(noise.ravel(), expected.cdf).pvalue > 1e-3


def test_the_reverse_sigmoid_is_the_paper_s_formula():
    y = PROBS.astype(np.float64)
    told = y - 0.4 * (1 / (1 + (y / (1 - y)) ** -0.5) - 0.5)
    answer = through(ReverseSigmoid(beta=0.4, gamma=0.5))
    np.testing.assert_allclose(answer.probs, told / told.sum(axis=1, keepdims=True), rtol=1e-5)


def test_the_reverse_sigmoid_takes_certainty():
    answer = through(ReverseSigmoid(beta=0.1, gamma=0.2), probs=np.float32([[1, 0, 0, 0, 0]]))
    np.testing.assert_allclose(answer.probs.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(answer.labels, [0])
    assert 0.5 < answer.probs[0, 0] < 1


def test_flips_have_their_rate_and_tell_every_other_class():
    x = np.random.default_rng(3).random((4000, 4), np.float32)
    probs = np.random.default_rng(4).dirichlet(np.ones(5), 4000).astype(np.float32)
    answer, again = (through(LabelFlips(0.2), probs=probs, x=x) for _ in range(2))
    truth = probs.argmax(axis=1)
    flipped = answer.labels != truth
    assert stats.binomtest(int(flipped.sum()), 4000, 0.2).pvalue > 1e-3
    shifts = np.bincount((answer.labels - truth)[flipped] % 5, minlength=5)
    assert shifts[0] == 0 and stats.chisquare(shifts[1:]).pvalue > 1e-3
    np.testing.assert_array_equal(answer.labels, again.labels)
    np.testing.assert_array_equal(answer.labels, answer.probs.argmax(axis=1))
    np.testing.assert_array_equal(np.sort(answer.probs, axis=1), np.sort(probs, axis=1))
    np.testing.assert_array_equal(answer.probs[~flipped], probs[~flipped])


def test_noised_answers_are_distributions_and_the_label_is_their_greatest():
    probs = np.random.default_rng(2).dirichlet(np.ones(5), 500).astype(np.float32)
    answer = through(GaussianNoise(2.0), probs=probs)
    np.testing.assert_allclose(answer.probs.sum(axis=1), 1, rtol=1e-5)
    assert (answer.probs >= 0).all()
    np.testing.assert_array_equal(answer.labels, answer.probs.argmax(axis=1))
    assert (answer.labels != probs.argmax(axis=1)).any()


def test_where_noise_cuts_everything_off_the_greatest_is_certain():
    x = np.random.default_rng(3).random((2000, 4), np.float32)
    defense, probs = GaussianNoise(5.0), np.full((2000, 2), 0.5, np.float32)
    values = probs + defense.noise(KEY, x, 2, site().grid)
    lost = (values < 0).all(axis=1)
    assert lost.sum() > 300
    answer = through(defense, probs=probs, x=x)
    np.testing.assert_array_equal(answer.probs[lost], np.eye(2)[values[lost].argmax(axis=1)])


def test_noise_has_the_size_that_was_asked_for():
    probs = np.full((500, 5), 0.2, np.float32)
    added = NOISE.noise(KEY, X, 5, site().grid)
    told = np.maximum(probs + added, 0)
    np.testing.assert_allclose(
        through(NOISE, probs=probs).probs, told / told.sum(axis=1, keepdims=True), rtol=1e-5
    )
    assert abs(added.std() - 0.1) < 0.01


async def test_the_first_layer_answers_last():
    def mark(name):
        async def layer(query, handle):
            seen.append(name)
            return await handle(query)

        return layer

    seen = []
    await ask([mark("outer"), mark("inner")], X[:2], PROBS)
    assert seen == ["outer", "inner"]


ROW_WISE = [
    *(LabelOnly(), TopK(2), Rounding(2), Temperature(3.0), GaussianNoise(0.05), LaplaceNoise(0.05)),
    *(ReverseSigmoid(0.5, 0.2), LabelFlips(0.3)),
]


@pytest.mark.parametrize("defense", ROW_WISE, ids=lambda defense: type(defense).__name__)
@pytest.mark.parametrize("k", [2, 5, 40])
def test_an_answer_does_not_depend_on_who_shares_the_change(defense, k):
    layer = defense.bind(site())
    assert isinstance(layer, RowWise)
    rng = np.random.default_rng(k)
    x = rng.random((90, 4), np.float32)
    x[7], x[8, 1] = x[3], -0.0
    probs = rng.dirichlet(np.full(k, 0.3), len(x)).astype(np.float32)
    probs[11] = np.eye(k, dtype=np.float32)[1]
    labels = probs.argmax(axis=1)
    together = layer.change(x, Answer(labels, probs))
    for start, end in ((0, 1), (1, 2), (2, 9), (9, 40), (40, 90)):
        alone = layer.change(x[start:end], Answer(labels[start:end], probs[start:end]))
        np.testing.assert_array_equal(alone.labels, together.labels[start:end])
        if together.probs is None:
            assert alone.probs is None
        else:
            assert alone.probs.dtype == together.probs.dtype
            assert alone.probs.tobytes() == np.ascontiguousarray(together.probs[start:end]).tobytes()
