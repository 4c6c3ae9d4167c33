import numpy as np
import pytest
from scipy import stats

from defenses.answers.row_noise import row_noise

SECRET = b"k" * 16
X = np.random.default_rng(0).random((500, 4), np.float32)


def numbers(x, k=5, secret=SECRET):
    return row_noise(secret, x, k)


def test_every_worker_and_every_start_draws_the_same():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = [[0.40392520383466035, 0.7130049561383203], [0.4706131563289091, 0.05695382982958108]]
    np.testing.assert_allclose(numbers(x, 2), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "width"), [(1, 4), (64, 784), (130, 1025), (3, 5000)])
def test_the_noise_of_a_row_does_not_depend_on_its_company(rows, width):
    x = np.random.default_rng(1).standard_normal((rows, width)).astype(np.float32)
    alone = np.concatenate([numbers(row[None]) for row in x])
    np.testing.assert_array_equal(numbers(x), alone)
    np.testing.assert_array_equal(numbers(np.repeat(x, 2, axis=1)[:, ::2]), alone)  # no matter how it lies


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_zeros_of_either_sign_are_one_row(dtype):
    zeros = np.zeros((1, 4), dtype)
    np.testing.assert_array_equal(numbers(zeros), numbers(-zeros))
    mixed = np.array([[-1, -0.0, 1, 0]], dtype)
    np.testing.assert_array_equal(numbers(mixed), numbers(np.array([[-1, 0, 1, -0.0]], dtype)))


def test_missing_is_missing_whatever_bits_say_so():
    bits = np.uint32([[0x3F000000, 0x7FC00000], [0x3F000000, 0xFFC01234], [0x3F000000, 0x7F800001]])
    drawn = numbers(bits.view(np.float32))
    np.testing.assert_array_equal(drawn, np.repeat(drawn[:1], 3, axis=0))
    assert (drawn[0] != numbers(np.float32([[0.5, np.inf]]))[0]).all()


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.int64, np.float32, np.float64])
def test_rows_that_differ_in_one_feature_have_other_numbers(dtype):
    x = np.eye(7, dtype=dtype)
    assert len(np.unique(np.concatenate([numbers(x), numbers(np.zeros((1, 7), dtype))]))) == 8 * 5


def test_texts_have_numbers_of_their_own():
    texts = np.array(["good", "bad", "good ", "", "\u00fc", '["a"]'], object)
    drawn = numbers(texts)
    assert len(np.unique(drawn)) == drawn.size
    np.testing.assert_array_equal(drawn[:2], numbers(np.array(["good", "bad"])))
    pairs = np.array([["a", "b"], ["ab", ""], ["", "ab"], ['a", "b', ""]], object)
    assert len(np.unique(numbers(pairs))) == 4 * 5


def test_another_secret_or_row_has_another_noise():
    ours, theirs = numbers(X), numbers(X, secret=b"j" * 16)
    assert abs(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]) < 0.1
    assert abs(np.corrcoef(ours[:-1].ravel(), ours[1:].ravel())[0, 1]) < 0.1


def test_keyed_numbers_are_uniform_in_every_column():
    drawn = numbers(np.random.default_rng(1).random((2000, 4)), 20)  # more than one digest a row
    assert drawn.shape == (2000, 20)
    for column in drawn.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(drawn[:, 0], drawn[:, 16])[0, 1]) < 0.1
    np.testing.assert_array_equal(drawn[:, :7], numbers(np.random.default_rng(1).random((2000, 4)), 7))
