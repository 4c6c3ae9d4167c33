"""Merkle trees: roots, and proofs that an entry is included and that a later tree extends an earlier one.

Source: Laurie, Langley, Kasper, "Certificate Transparency", RFC 6962, section 2.1; the checks of proofs are those
of RFC 9162, sections 2.1.3.2 and 2.1.4.2. Leaves and nodes are hashed with different prefixes, so that no node can
be passed off as an entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

Hashes = Sequence[bytes]


def leaf_hash(entry: bytes) -> bytes:
    """Returns the hash of an entry."""
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Returns the hash of a node."""
    return hashlib.sha256(b"\1" + left + right).digest()


def tree_hash(leaves: Hashes) -> bytes:
    """Returns the root of the tree over the hashes of entries."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256().digest()
    k = _split(len(leaves))
    return node_hash(tree_hash(leaves[:k]), tree_hash(leaves[k:]))


def inclusion_path(leaves: Hashes, index: int) -> list[bytes]:
    """Returns the proof that a tree includes its entry ``index``: the siblings on the way to the root."""
    if len(leaves) < 2:
        return []
    k = _split(len(leaves))
    if index < k:
        return [*inclusion_path(leaves[:k], index), tree_hash(leaves[k:])]
    return [*inclusion_path(leaves[k:], index - k), tree_hash(leaves[:k])]


def consistency_path(leaves: Hashes, size: int) -> list[bytes]:
    """Returns the proof that a tree extends that of its first ``size`` entries, at least one."""
    return _subproof(leaves, size, whole=True)


def includes(root: bytes, size: int, leaf: bytes, index: int, path: Hashes) -> bool:
    """Returns whether a proof shows that the tree of a root and size has a leaf at an index."""
    if not 0 <= index < size:
        return False
    place, last, found = index, size - 1, leaf
    for sibling in path:
        if not last:
            return False
        if place & 1 or place == last:
            found = node_hash(sibling, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        place, last = place >> 1, last >> 1
    return not last and found == root


def extends(new: tuple[int, bytes], old: tuple[int, bytes], path: Hashes) -> bool:
    """Returns whether a proof shows that a new tree extends an old one, each given by size and root."""
    (size, root), (first, old_root) = new, old
    if not 0 < first <= size:
        return False
    if first == size:
        return not path and root == old_root
    steps = list(path) if first & (first - 1) else [old_root, *path]
    if not steps:
        return False
    place, last = first - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    one = other = steps[0]
    for sibling in steps[1:]:
        if not last:
            return False
        if place & 1 or place == last:
            one, other = node_hash(sibling, one), node_hash(sibling, other)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            other = node_hash(other, sibling)
        place, last = place >> 1, last >> 1
    return not last and (one, other) == (old_root, root)


def _split(n: int) -> int:
    """Returns the largest power of two that is smaller than n, at least 2."""
    return 1 << ((n - 1).bit_length() - 1)


def _subproof(leaves: Hashes, size: int, *, whole: bool) -> list[bytes]:
    if size == len(leaves):
        return [] if whole else [tree_hash(leaves)]
    k = _split(len(leaves))
    if size <= k:
        return [*_subproof(leaves[:k], size, whole=whole), tree_hash(leaves[k:])]
    return [*_subproof(leaves[k:], size - k, whole=False), tree_hash(leaves[:k])]
