"""Attacks on models that take texts, or rows with missing features."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from kinds import sentences, table

from attacker.asking import fitting
from attacker.extraction.jbda import Jbda
from attacker.extraction.knockoff import Knockoff
from attacker.journal import Journal, read_journal, save_transfer
from wire import Answer, Array, BadInput, Oracle
from zoo.data.pool import Pool
from zoo.families.text import Tfidf
from zoo.families.trees import Tree
from zoo.model import Model
from zoo.recipe import Recipe


def oracle(victim: Model) -> Oracle:
    def transport(x: Array) -> Answer:
        probs = victim.predict(x)
        return Answer(probs.argmax(axis=1), probs)

    return Oracle(transport, victim.card())


@pytest.mark.parametrize(
    ("family", "victim", "rows"),
    [("tree", Tree(), table), ("knn", Tree(), table), ("tfidf", Tfidf(), sentences)],
    ids=["tree", "no-network-for-missing", "texts"],
)
def test_a_surrogate_of_the_same_kind_is_trained_on_the_answers(family: str, victim: Tree, rows) -> None:  # type: ignore[no-untyped-def]
    model = Recipe(victim).train(rows(300))
    pool, test = rows(400, seed=1), rows(400, seed=2)
    attack = Knockoff(family=family)
    if family == "knn":  # it takes no missing features either
        with pytest.raises(BadInput, match="cannot take missing"):
            attack.extract(oracle(model), pool, np.random.default_rng(0))
        return
    copy = attack.extract(oracle(model), pool, np.random.default_rng(0))
    assert (copy.predict(test.x).argmax(1) == model.predict(test.x).argmax(1)).mean() > 0.85
    assert copy.card().dtype == pool.dtype and copy.card().class_names == pool.class_names


@pytest.mark.parametrize("rows", [table, sentences])
def test_networks_say_what_they_cannot_be_trained_on_before_anything_is_asked(rows) -> None:  # type: ignore[no-untyped-def]
    victim = oracle(Recipe(Tree() if rows is table else Tfidf()).train(rows(100)))
    if rows is sentences:
        victim.card = Recipe(Tree()).train(table()).card()
    for attack in (Knockoff(family="mlp"), Jbda(family="mlp")):
        with pytest.raises(BadInput, match=r"features are missing|texts"):
            attack.extract(victim, rows(50), np.random.default_rng(0))
    assert victim.spent == 0


def test_files_of_such_rows_are_read(tmp_path: Path) -> None:
    for rows, family in ((table, Tree()), (sentences, Tfidf())):
        pool, path = rows(), tmp_path / "pool.npz"
        pool.save(path)
        read = fitting(path, Recipe(family).train(pool).card())
        assert read.fingerprint == pool.fingerprint
        assert isinstance(read, Pool)


def test_answers_about_texts_are_kept(tmp_path: Path) -> None:
    pool = sentences(9)
    texts = pool.x.copy()
    texts[3] = "ümläut\n\0 🎬"

    def told(x: Array) -> Answer:
        return Answer(np.arange(len(x)))

    with closing(Journal(tmp_path / "journal.npy", 3)) as journal:
        ask = journal.recorded(told)
        ask(texts[:5])
        ask(texts[5:])
    x, answer = read_journal(tmp_path / "journal.npy")
    assert x.tolist() == texts.tolist() and answer.labels.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3]
    assert save_transfer(tmp_path / "journal.npy", tmp_path / "transfer.npz") == 9
    assert [path.name for path in tmp_path.iterdir()] == ["transfer.npz"]
    assert Pool.load(tmp_path / "transfer.npz").x.tolist() == texts.tolist()
