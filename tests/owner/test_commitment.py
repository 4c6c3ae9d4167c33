import dataclasses
import hashlib

import pytest

from owner.commitment import Entry, commit, commitment_to, drawn_victim, opened, receipt
from owner.log.log import Log
from wire import BadInput

PARTS = {"recipe": b"{}", "rows": b'{"a":1}', "rule": b'{"margin":1.0}'}
SECRET = "17" * 32
ROOT = commitment_to(PARTS, SECRET)


@pytest.fixture
def log(tmp_path):
    found = Log.open(tmp_path / "log", create=True)
    for number in range(4):
        found = commit(found, Entry(f"{number:064x}", 16))
    return commit(found, Entry(ROOT, 16, "round 7"))


@pytest.fixture
def shown(log):
    later = commit(commit(log, Entry("aa" * 32, 16)), Entry("bb" * 32, 16))
    return receipt(later, Entry(ROOT, 16, "round 7"), opened(PARTS, SECRET, "rule"))


def test_a_commitment_binds_every_part_and_hides_it():
    assert len(ROOT) == 64 and commitment_to(PARTS, SECRET) == ROOT
    for name in PARTS:
        assert commitment_to({**PARTS, name: b"{ }"}, SECRET) != ROOT
    assert commitment_to(PARTS, "18" * 32) != ROOT  # nobody can guess a part from the root


@pytest.mark.parametrize("name", PARTS)
def test_one_part_is_opened_without_the_others(name):
    part = opened(PARTS, SECRET, name)
    assert part.content.encode() == PARTS[name] and part.belongs_to(ROOT)
    assert SECRET not in repr(part)
    for change in ({"content": "{ }"}, {"index": (part.index + 1) % 3}, {"blinding": "00" * 32}, {"path": ()}):
        assert not dataclasses.replace(part, **change).belongs_to(ROOT)
    assert not part.belongs_to("00" * 32)


def test_a_commitment_is_entered_once(log):
    assert commit(log, Entry(ROOT, 16, "round 7")) is log and len(log.entries) == 5
    assert len(commit(log, Entry(ROOT, 16)).entries) == 6  # another claim about the victim is another commitment


def test_a_receipt_proves_the_entry_and_their_number(shown):
    shown.check()
    assert (shown.index, shown.head.size, shown.latest.size, shown.commitments) == (4, 5, 7, 7)
    assert shown.check_published([shown.latest, shown.head]) == shown.head


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda r: {"entry": Entry("cc" * 32, 16)}, "does not have the commitment cc"),
        (lambda r: {"entry": dataclasses.replace(r.entry, beacon="another")}, "does not have the commitment"),
        (lambda r: {"entry": dataclasses.replace(r.entry, models=100)}, "does not have the commitment"),
        (lambda r: {"index": 3}, "does not have the commitment"),
        (lambda r: {"inclusion": r.inclusion[:-1]}, "does not have the commitment"),
        (lambda r: {"consistency": r.consistency[1:]}, "the log of 7 entries does not extend that of 5"),
        (lambda r: {"head": dataclasses.replace(r.head, size=6)}, "not signed"),
        (lambda r: {"latest": dataclasses.replace(r.latest, size=5)}, "not signed"),
        (lambda r: {"latest": r.head}, "does not extend"),
        (lambda r: {"rule": dataclasses.replace(r.rule, content="{}")}, "the rule"),
    ],
)
def test_a_receipt_that_proves_nothing_is_refused(shown, change, fault):
    with pytest.raises(BadInput, match=fault):
        dataclasses.replace(shown, **change(shown)).check()


def test_the_victim_is_drawn_as_the_page_says():
    digest = hashlib.sha256(bytes.fromhex("ab12") + bytes.fromhex(ROOT)).hexdigest()
    assert drawn_victim("ab12", ROOT, 16) == int(digest, 16) % 16
    assert len({drawn_victim(f"{value:02x}", ROOT, 16) for value in range(256)}) == 16
    assert drawn_victim("FF", ROOT, 16) == drawn_victim("ff", ROOT, 16)
