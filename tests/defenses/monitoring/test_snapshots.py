from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest

from defenses.detectors import counts, prada, sybils
from defenses.monitoring.snapshots import dump, load, schema
from wire import Array


class Pair(NamedTuple):
    row: int
    statistic: float


@dataclass
class Part:
    numbers: list[float] = field(default_factory=list)
    array: Array = field(default_factory=lambda: np.empty((0, 3), np.int8))


@dataclass
class Whole:
    rows: int = 0
    alarm: Pair | None = None
    names: dict[str, Part] = field(default_factory=dict)
    sets: dict[int, float] = field(default_factory=dict)
    next: Part | None = None
    shape: tuple[int, ...] = ()
    known: bool = False


def filled():
    array = np.arange(6, dtype=np.int8).reshape(2, 3)
    parts = {"b": Part([1.5, float("inf")], array), "a": Part()}
    return Whole(
        10**20, Pair(3, 0.1), parts, {7: 0.25, -1: 1e-300}, Part([], array.astype(np.float32)), (2, 3), True
    )


def test_a_state_comes_back_as_it_was():
    state = filled()
    again = load(Whole(), dump(state))
    assert (again.rows, again.alarm, again.sets, again.shape, again.known) == (
        10**20,
        Pair(3, 0.1),
        state.sets,
        (2, 3),
        True,
    )
    assert isinstance(again.alarm, Pair)
    assert again.names["b"].numbers == [1.5, float("inf")] and again.names["a"].numbers == []
    for one, other in ((again.names["b"], state.names["b"]), (again.next, state.next)):
        np.testing.assert_array_equal(one.array, other.array)
        assert one.array.dtype == other.array.dtype
    again.names["b"].array.resize((4, 3), refcheck=False)  # it owns its memory
    assert load(Whole(), dump(Whole())) == Whole()


def test_equal_states_give_equal_bytes():
    one, other = filled(), filled()
    other.names = dict(reversed(other.names.items()))
    assert dump(one) == dump(other) == dump(load(Whole(), dump(one)))
    other.names["a"].numbers.append(0.0)
    assert dump(one) != dump(other)


def test_a_broken_or_foreign_snapshot_is_refused():
    saved = dump(filled())
    method = saved.rindex(b"PK\x01\x02") + 10  # of compression, of the last array
    unknown = saved[:method] + b"\x01" + saved[method + 1 :]
    for broken in (
        b"",
        b"[]",
        saved[:-40],
        saved[: len(saved) // 2],
        saved.replace(b'"state"', b'"stale"'),
        unknown,
    ):
        with pytest.raises(ValueError, match=r"not a valid snapshot of .*\.Whole"):
            load(Whole(), broken)
    with pytest.raises(ValueError, match=r"the snapshot has schema \w+; expected .*Part"):
        load(Part(), saved)
    wrong = Whole(rows="three")
    with pytest.raises(ValueError, match="not a valid snapshot"):
        load(Whole(), dump(wrong))


def test_the_schema_changes_with_any_field_of_any_part():
    @dataclass
    class Renamed:
        rows: int = 0
        first: Pair | None = None

    assert len({schema(cls) for cls in (Whole, Part, Renamed, counts.State, prada.State, sybils.State)}) == 6


@pytest.mark.parametrize("hint", [object, int | str, tuple[int, str], dict, set[int], Array | int])
def test_a_type_that_no_snapshot_can_hold_is_refused(hint):
    @dataclass
    class Impossible:
        anything: hint = None

    Impossible.__annotations__["anything"] = hint
    with pytest.raises(TypeError, match="a snapshot cannot hold"):
        dump(Impossible())
