"""The out-of-distribution detector at a victim of texts."""

import asyncio

import numpy as np
import pytest
from parts import Local, local_server

from wire import BadInput, Refused
from zoo import folder
from zoo.data.pool import Pool, texts
from zoo.families import FAMILIES
from zoo.training import Training

FILMS, STOCKS = "a fine dull film with warm weak cast plot joke", "the stock market fell three points on friday"
CONFIG = """
state = "state"
[plans.free]
[[victims]]
name = "texts"
folder = "victim"
defenses = [{ type = "ood", folder = "FILTER", delta = 0.3, rows = 20, reaction = "refuse" }]
"""


def drawn(words, n, seed):
    rng = np.random.default_rng(seed)
    return texts([" ".join(rng.choice(words.split(), 6)) for _ in range(n)])


def trained(path, x, y, names=("one", "other")):
    folder.save(FAMILIES["tfidf"]().train(Pool(x, y, names), Training(), 0, device="cpu", label="test"), path)


@pytest.fixture
def served(config):
    """A configuration with a victim of texts about films, whose filter tells them from texts about stocks."""
    x = drawn(FILMS, 300, 0)
    trained(config.parent / "victim", x, np.array(["fine" in text for text in x], int))
    pool = Pool(x).against(Pool(drawn(STOCKS, 300, 1)))
    trained(config.parent / "filter", pool.x, pool.y)
    config.write_text(CONFIG.replace("FILTER", "filter"))
    return config


def test_an_account_with_other_texts_is_flagged_and_one_with_own_texts_is_not(served):
    with local_server(served) as server:
        good, bad = (server.endpoint("texts", "free", name) for name in ("good", "bad"))
        for seed in range(3):
            assert len(good(drawn(FILMS, 20, 10 + seed))) == 20
        with pytest.raises(Refused, match="raised an alarm"):
            bad(drawn(STOCKS, 20, 20))


def test_a_filter_of_numbers_does_not_fit_texts(served, network):
    folder.save(network, served.parent / "numbers")
    served.write_text(CONFIG.replace("FILTER", "numbers"))
    with pytest.raises(BadInput, match="it takes numbers, and the victim texts"):
        asyncio.run(Local(served).app.service.begin())
