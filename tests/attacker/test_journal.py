from contextlib import closing

import numpy as np
import pytest

from attacker.journal import Journal, Recording, read_journal, save_transfer
from wire import Answer, BadInput, Malformed

RNG = np.random.default_rng(0)
X = RNG.random((7, 1, 2, 2), np.float32)
PROBS = RNG.dirichlet(np.ones(3), 7).astype(np.float32)
LABELS = PROBS.argmax(axis=1)


def rows_of(x):
    return slice(int(np.flatnonzero((x[0] == X).all(axis=(1, 2, 3)))[0]), None)


def told(x):
    at = rows_of(x)
    return Answer(LABELS[at][: len(x)], PROBS[at][: len(x)])


def test_a_recording_keeps_batches_and_answers():
    recording = Recording(told)
    recording(X[:4])
    recording(X[4:])
    assert [len(x) for x in recording.asked] == [4, 3]
    assert np.array_equal(Answer.join(recording.answers).labels, LABELS)


def test_every_answer_is_in_the_file_before_it_is_used(tmp_path):
    journal = Journal(tmp_path / "journal.npy", 3)
    ask = journal.recorded(told)
    for start, end in ((0, 4), (4, 5), (5, 7)):
        ask(X[start:end])
        x, answer = read_journal(tmp_path / "journal.npy")  # nothing was closed
        assert np.array_equal(x, X[:end])
        assert np.array_equal(answer.labels, LABELS[:end]) and np.array_equal(answer.probs, PROBS[:end])
    journal.close()


def test_a_record_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "journal.npy"
    with closing(Journal(path, 3)) as journal:
        journal.record(X, told(X))
    path.write_bytes(path.read_bytes()[:-5])
    x, answer = read_journal(path)
    assert len(x) == len(answer) == 6


def test_labels_alone_have_no_probabilities(tmp_path):
    with closing(Journal(tmp_path / "journal.npy", 3)) as journal:
        journal.record(X, Answer(LABELS))
    _, answer = read_journal(tmp_path / "journal.npy")
    assert answer.probs.shape == (7, 3) and np.isnan(answer.probs).all()


def test_another_number_of_classes_is_malformed(tmp_path):
    journal = Journal(tmp_path / "journal.npy", 3)
    journal.record(X, Answer(LABELS, PROBS))
    with closing(journal), pytest.raises(Malformed, match="got 2 numbers about a row, earlier 3"):
        journal.record(X, Answer(LABELS, PROBS[:, :2]))
    assert len(read_journal(tmp_path / "journal.npy")[0]) == 7


def test_a_journal_becomes_a_transfer_set(tmp_path):
    with closing(Journal(tmp_path / "journal.npy", 3)) as journal:
        journal.record(X, told(X))
    assert save_transfer(tmp_path / "journal.npy", tmp_path / "transfer.npz") == 7
    assert not (tmp_path / "journal.npy").exists()
    with np.load(tmp_path / "transfer.npz") as transfer:
        assert np.array_equal(transfer["x"], X) and np.array_equal(transfer["labels"], LABELS)
        assert np.array_equal(transfer["probs"], PROBS)


def test_another_file_is_no_journal(tmp_path):
    (tmp_path / "journal.npy").write_bytes(b"something else")
    with pytest.raises(BadInput, match="not a journal of answers"):
        read_journal(tmp_path / "journal.npy")
