"""Trees and proofs, beside the test vectors of Certificate Transparency's reference code."""

import hashlib

import pytest

from owner.log.merkle import consistency_path, extends, includes, inclusion_path, leaf_hash, tree_hash

ENTRIES = [
    bytes.fromhex(text)
    for text in (
        *("", "00", "10", "2021", "3031", "40414243"),
        *("5051525354555657", "606162636465666768696a6b6c6d6e6f"),
    )
]
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
MANY = [leaf_hash(bytes([number])) for number in range(20)]


def test_roots_are_those_of_certificate_transparency():
    assert tree_hash([]) == hashlib.sha256(b"").digest()
    assert tuple(tree_hash(LEAVES[: n + 1]).hex() for n in range(8)) == ROOTS


def test_a_path_is_that_of_certificate_transparency():
    assert [step.hex() for step in inclusion_path(LEAVES[:3], 1)] == [ROOTS[0], LEAVES[2].hex()]
    assert [step.hex()[:8] for step in consistency_path(LEAVES, 6)] == ["0ebc5d34", "ca854ea1", "d37ee418"]


@pytest.mark.parametrize("size", range(1, 21))
def test_every_entry_is_shown_to_be_included_and_nothing_else(size):
    root = tree_hash(MANY[:size])
    for index in range(size):
        path = inclusion_path(MANY[:size], index)
        assert includes(root, size, MANY[index], index, path)
        assert not includes(root, size, leaf_hash(b"other"), index, path)
        assert not includes(root, size, MANY[index], index, [*path, root])
        assert not includes(root, size, MANY[index], size, path)
        if path:
            assert not includes(root, size, MANY[index], index, path[:-1])
            assert not includes(root, size, MANY[index], (index + 1) % size, path)


@pytest.mark.parametrize("size", range(1, 21))
def test_a_longer_tree_is_shown_to_extend_a_shorter_one_and_no_other(size):
    new = (size, tree_hash(MANY[:size]))
    for first in range(1, size + 1):
        old, path = (first, tree_hash(MANY[:first])), consistency_path(MANY[:size], first)
        assert extends(new, old, path)
        assert not extends(new, (first, tree_hash([*MANY[1:first], MANY[0]]) if first > 1 else b"?"), path)
        assert not extends((size, leaf_hash(b"")), old, path)
        assert not extends(new, old, [*path, new[1]])
        assert not extends(old, new, path) or first == size
    assert not extends(new, (0, tree_hash([])), [])


def test_a_node_is_no_entry():
    """Without the prefixes, two hashes side by side would pass for the entry whose hash is their node."""
    root = tree_hash(LEAVES[:2])
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != root
    assert not includes(root, 1, leaf_hash(LEAVES[0] + LEAVES[1]), 0, [])
