import dataclasses

import pytest

from owner.log.head import Head, read_head
from owner.log.log import Log
from owner.log.merkle import leaf_hash, tree_hash
from wire import BadInput


def grown(folder, entries=(b"a", b"b", b"c")):
    log = Log.open(folder, create=True)
    for entry in entries:
        log = log.append(entry)
    return log


def test_a_log_grows_and_comes_back(tmp_path):
    log = grown(tmp_path / "log")
    again = Log.open(tmp_path / "log")
    assert again.entries == log.entries == (b"a", b"b", b"c") and again.heads == log.heads
    assert [head.size for head in log.heads] == [1, 2, 3] and {head.key for head in log.heads} == {log.public_key}
    assert log.heads[1].root == tree_hash([leaf_hash(b"a"), leaf_hash(b"b")]).hex()
    assert all(
        path.stat().st_mode & 0o77 == 0
        for path in (tmp_path / "log").iterdir()
        if path.suffix in (".pem", ".json", ".jsonl")
    )


def test_heads_are_signed(tmp_path):
    head = grown(tmp_path / "log").heads[-1]
    head.check()
    other = grown(tmp_path / "other").heads[-1]
    changes = {"size": 4, "root": "00" * 32, "time": other.time.replace(year=2001), "key": other.key}
    for name, value in {**changes, "signature": other.signature}.items():
        with pytest.raises(BadInput, match="is not signed by its key"):
            dataclasses.replace(head, **{name: value}).check()
    for broken in ("", "zz", "00"):
        with pytest.raises(BadInput, match="is not signed by its key"):
            dataclasses.replace(head, signature=broken).check()


def test_every_flipped_bit_of_a_head_is_refused_or_means_nothing(tmp_path):
    grown(tmp_path / "log", [b"a"])
    path = tmp_path / "log" / "head-1.json"
    head, content = read_head(path), path.read_bytes()
    assert b"timestamp" in content
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 + place % 127
        path.write_bytes(changed)
        try:
            assert read_head(path) == head  # white space, or the name of a member that has a default
        except BadInput as error:
            assert "head-1.json: " in str(error)


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("entries.jsonl", b"a\nb\nd\n", "the entries are not those of head-3.json"),
        ("entries.jsonl", b"a\nb\n", "expected a head after each of the 2 entries"),
        ("entries.jsonl", b"a\nb\nc\nd\n", "expected a head after each of the 4 entries"),
        ("entries.jsonl", None, r"the log needs key.pem, with an Ed25519 key, and entries.jsonl"),
        ("key.pem", b"no", "the log needs key.pem"),
        ("head-2.json", None, "expected a head after each of the 3 entries"),
        ("head-2.json", b"{}", "head-2.json: not the head of a log: key: "),
    ],
)
def test_a_log_that_was_changed_is_refused(tmp_path, name, content, fault):
    grown(tmp_path / "log")
    path = tmp_path / "log" / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BadInput, match=fault):
        Log.open(tmp_path / "log")


def test_a_log_of_another_key_is_refused(tmp_path):
    grown(tmp_path / "log")
    grown(tmp_path / "other")
    (tmp_path / "log" / "key.pem").write_bytes((tmp_path / "other" / "key.pem").read_bytes())
    with pytest.raises(BadInput, match="expected one log"):
        Log.open(tmp_path / "log")


def test_there_is_no_log_without_a_key(tmp_path):
    with pytest.raises(BadInput, match="no log"):
        Log.open(tmp_path)
    assert isinstance(grown(tmp_path).heads[0], Head)
