import numpy as np
import pytest

from wire import BadInput
from zoo.data.pool import Pool, bytes_to_rows


def pool(n=10):
    rng = np.random.default_rng(0)
    return Pool(bytes_to_rows(rng.integers(0, 256, (n, 1, 5, 5))), rng.integers(0, 2, n), ("cat", "dög"))


def same(one, other):
    np.testing.assert_array_equal(one.x, other.x)
    assert one.x.dtype == other.x.dtype == np.float32
    assert (one.y is None) == (other.y is None)
    if one.y is not None:
        np.testing.assert_array_equal(one.y, other.y)
        assert one.y.dtype == other.y.dtype == np.int64
    assert one.class_names == other.class_names


def test_images_come_back_and_are_kept_as_bytes(tmp_path):
    pool().save(tmp_path / "new" / "pool.npz")
    same(Pool.load(tmp_path / "new" / "pool.npz"), pool())
    with np.load(tmp_path / "new" / "pool.npz") as file:
        assert file["x"].dtype == np.uint8
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["pool.npz"]


@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_rows_that_are_no_bytes_come_back_as_they_were(tmp_path, low):
    x = np.random.default_rng(0).uniform(low, 1, (10, 4)).astype(np.float32)
    Pool(x).save(tmp_path / "pool.npz")
    same(Pool.load(tmp_path / "pool.npz"), Pool(x))


def test_every_byte_comes_back(tmp_path):
    every = Pool(bytes_to_rows(np.arange(256, dtype=np.uint8)[:, None]))
    every.save(tmp_path / "pool.npz")
    same(Pool.load(tmp_path / "pool.npz"), every)


def test_taking_keeps_rows_with_their_labels():
    whole, some = pool(), pool().take([7, 2])
    np.testing.assert_array_equal(some.x, whole.x[[7, 2]])
    np.testing.assert_array_equal(some.y, whole.y[[7, 2]])
    same(whole.take(slice(3)), whole.take([0, 1, 2]))
    assert len(whole.take(np.arange(10) < 4)) == 4
    assert Pool(whole.x).take([1]).y is None


def test_the_fingerprint_is_that_of_everything():
    whole = pool()
    others = [
        whole.take(slice(9)),
        Pool(whole.x, whole.y),
        Pool(whole.x),
        Pool(whole.x, 1 - whole.y, ("cat", "dög")),
    ]
    others.append(Pool(1 - whole.x, whole.y, whole.class_names))
    assert len({whole.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert pool().fingerprint == whole.fingerprint


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"y": np.zeros(2, np.int64)}, 'no "x"'),
        ({"x": np.zeros((2, 3))}, r"rows must be .* float32, not \(2, 3\) float64"),
        ({"x": np.zeros(2, np.float32)}, "rows must be"),
        ({"x": np.full((2, 3), np.nan, np.float32)}, "finite"),
        (
            {"x": np.zeros((2, 3), np.float32), "y": np.zeros(3, np.int64)},
            r"labels must be \(2,\) int64, not \(3,\)",
        ),
        ({"x": np.zeros((2, 3), np.float32), "y": np.zeros(2)}, "labels must be"),
        (
            {"x": np.zeros((1, 3), np.float32), "y": np.array([2]), "class_names": np.array(["a", "b"])},
            "2 classes",
        ),
        ({"x": np.zeros((1, 3), np.float32), "y": np.array([-1])}, "negative"),
        ({"x": np.zeros((1, 3), np.float32), "class_names": np.array([1])}, "class_names"),
        ({"x": np.array([[None]], dtype=object)}, "not a file of rows"),
    ],
)
def test_a_broken_file_is_named(tmp_path, arrays, fault):
    path = write(tmp_path / "pool.npz", **arrays)
    with pytest.raises(BadInput, match=rf"pool\.npz: .*{fault}"):
        Pool.load(path)


@pytest.mark.parametrize("content", [b"", b"rows", b"PK\x03\x04", b"\x80\x04N."])
def test_a_file_of_another_kind_is_named(tmp_path, content):
    (tmp_path / "pool.npz").write_bytes(content)
    with pytest.raises(BadInput, match=r"pool\.npz: not a file of rows"):
        Pool.load(tmp_path / "pool.npz")


def test_a_lone_array_is_named(tmp_path):
    with (tmp_path / "pool.npz").open("wb") as file:
        np.save(file, np.zeros((2, 3), np.float32))
    with pytest.raises(BadInput, match=r"pool\.npz: not a file of rows"):
        Pool.load(tmp_path / "pool.npz")


def test_a_file_cut_short_is_named(tmp_path):
    pool().save(tmp_path / "pool.npz")
    (tmp_path / "pool.npz").write_bytes((tmp_path / "pool.npz").read_bytes()[:-40])
    with pytest.raises(BadInput, match=r"pool\.npz: not a file of rows"):
        Pool.load(tmp_path / "pool.npz")


@pytest.mark.parametrize("name", ["nowhere.npz", "."])
def test_a_path_that_is_no_file_is_named(tmp_path, name):
    with pytest.raises(BadInput, match=r"no such file|not a file of rows"):
        Pool.load(tmp_path / name)
