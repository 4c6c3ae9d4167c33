import numpy as np
import pytest

from wire import BadInput
from zoo.data import Dataset, Pool, roles

SEVENTIETHS = {
    "victim": 20,
    "unseen": 5,
    "pool": 10,
    "shadow": 10,
    "control": 10,
    "reference": 10,
    "evaluation": 5,
}


def numbered(n):
    """Returns a data set whose rows are their own numbers."""
    return Dataset("numbers", Pool(np.arange(n, dtype=np.float32)[:, None], np.arange(n) % 2, ("a", "b")), "here")


def numbers(drawn):
    return {role: pool.x[:, 0].astype(int) for role, pool in drawn.items()}


@pytest.mark.parametrize("n", [14, 150, 569, 5000, 70_000, 140_001])
def test_roles_are_disjoint_and_have_their_shares(n):
    drawn = numbers(roles.draw(numbered(n), seed=0))
    assert {role: len(rows) for role, rows in drawn.items()} == {
        role: n * share // 70 for role, share in SEVENTIETHS.items()
    }
    every = np.concatenate(list(drawn.values()))
    assert len(np.unique(every)) == len(every)


def test_seventy_thousand_rows_are_divided_wholly():
    drawn = numbers(roles.draw(numbered(70_000), seed=0))
    assert sum(map(len, drawn.values())) == 70_000
    assert len(drawn["victim"]) == 20_000


def test_labels_stay_with_their_rows():
    for pool in roles.draw(numbered(700), seed=0).values():
        np.testing.assert_array_equal(pool.y, pool.x[:, 0] % 2)
        assert pool.class_names == ("a", "b")


def test_the_draw_is_seeded_and_random():
    first, again, other = (numbers(roles.draw(numbered(700), seed)) for seed in (0, 0, 1))
    for role in SEVENTIETHS:
        np.testing.assert_array_equal(first[role], again[role])
        assert not np.array_equal(first[role], other[role])
        assert abs(first[role].mean() - 350) < 120  # from everywhere, not a stretch of the set


def test_too_few_rows_are_refused():
    with pytest.raises(BadInput, match="numbers has 13 rows; roles need at least 14"):
        roles.draw(numbered(13), seed=0)


def test_written_roles_are_written_once(tmp_path):
    folder = roles.written(numbered(70), 0, tmp_path / "roles")
    drawn = roles.draw(numbered(70), 0)
    for role, pool in drawn.items():
        np.testing.assert_array_equal(Pool.load(folder / f"{role}.npz").x, pool.x)
    assert {path.stem for path in folder.glob("*.npz")} == {*drawn, "candidates", "truth"}
    before = (folder / "victim.npz").stat().st_mtime_ns
    roles.written(numbered(70), 0, tmp_path / "roles")
    assert (folder / "victim.npz").stat().st_mtime_ns == before


def test_the_attacker_s_pool_has_no_labels(tmp_path):
    folder = roles.written(numbered(70), 0, tmp_path / "roles")
    assert Pool.load(folder / "pool.npz").y is None
    assert Pool.load(folder / "shadow.npz").y is not None


def test_written_roles_of_other_rows_are_refused(tmp_path):
    roles.written(numbered(70), 0, tmp_path / "roles")
    for dataset, seed in ((numbered(70), 1), (numbered(140), 0)):
        with pytest.raises(BadInput, match="does not hold the roles of numbers"):
            roles.written(dataset, seed, tmp_path / "roles")


def test_roles_of_an_earlier_version_that_lack_a_file_are_refused(tmp_path):
    (roles.written(numbered(70), 0, tmp_path / "roles") / "reference.npz").unlink()
    with pytest.raises(BadInput, match="does not hold the roles of numbers"):
        roles.written(numbered(70), 0, tmp_path / "roles")


def test_a_draw_without_a_seed_is_another_in_every_state_folder(tmp_path):
    ours, theirs = (roles.kept(numbered(700), None, tmp_path / place) for place in ("ours", "theirs"))
    assert ours == tmp_path / "ours" / "roles" / "numbers"
    victims = [set(Pool.load(folder / "victim.npz").x[:, 0]) for folder in (ours, theirs)]
    assert victims[0] != victims[1] and victims[0] != set(roles.draw(numbered(700), 0)["victim"].x[:, 0])
    assert (ours / "truth.npz").read_bytes() != (theirs / "truth.npz").read_bytes()
    before = (ours / "victim.npz").read_bytes()
    assert (roles.kept(numbered(700), None, tmp_path / "ours") / "victim.npz").read_bytes() == before
    assert roles.kept(numbered(700), 5, tmp_path / "ours") == tmp_path / "ours" / "roles" / "numbers-5"


@pytest.mark.parametrize("party", roles.PARTIES)
def test_a_party_gets_copies_of_its_files_and_no_others(party, tmp_path):
    drawn = roles.written(numbered(70), 0, tmp_path / "roles")
    paths = roles.hand_out(drawn, party, tmp_path / party)
    assert sorted(paths) == sorted((tmp_path / party).iterdir())
    assert [path.stem for path in paths] == list(roles.PARTIES[party])
    assert all(path.read_bytes() == (drawn / path.name).read_bytes() for path in paths)
    assert roles.hand_out(drawn, party, tmp_path / party) == paths
    others = roles.written(numbered(70), 1, tmp_path / "others")
    with pytest.raises(BadInput, match=r"differs from the file in .*others; remove it"):
        roles.hand_out(others, party, tmp_path / party)


def test_every_file_of_a_draw_has_one_holder(tmp_path):
    drawn = roles.written(numbered(70), 0, tmp_path / "roles")
    held = [name for names in roles.PARTIES.values() for name in names]
    assert sorted(held) == sorted(path.stem for path in drawn.glob("*.npz"))


def test_candidates_are_members_and_as_many_others_in_any_order(tmp_path):
    drawn = roles.draw(numbered(700), 0)
    rows, member = roles.candidates(drawn["victim"], drawn["evaluation"], 0)
    assert len(rows) == len(member) == 2 * len(drawn["evaluation"]) and member.sum() == len(rows) // 2
    trained = {row.tobytes() for row in drawn["victim"].x}
    assert [row.tobytes() in trained for row in rows.x] == member.tolist()
    assert member[: len(rows) // 2].any() and not member[: len(rows) // 2].all()
    label = {
        row.tobytes(): y
        for role in ("victim", "evaluation")
        for row, y in zip(drawn[role].x, drawn[role].y, strict=True)
    }
    assert [label[row.tobytes()] for row in rows.x] == rows.y.tolist()
