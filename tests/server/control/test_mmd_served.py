"""MMD at a live API: a victim of texts, and a network in its own features."""

import tomllib

import numpy as np
import pytest
from parts import SHAPE, local_server

from server.command import main
from wire import Refused
from zoo import folder
from zoo.data.pool import Pool, texts
from zoo.families import FAMILIES
from zoo.training import Training

PLANS = 'state = "state"\n[plans.free]\n[plans.admin]\nadmin = true\n'
GOOD, BAD = "a fine film with a warm heart and a clever plot", "a dull film with a weak cast and a stale joke"


def sentences(n, seed, words=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    pools = [(words or text).split() for text in (BAD, GOOD)]
    return texts([" ".join(rng.choice(pools[label], 8)) for label in labels]), labels


def test_a_victim_of_texts_is_watched(config, capsys):
    x, y = sentences(600, 0)
    pool = Pool(x, y, ("bad", "good"))
    victim = FAMILIES["tfidf"]().train(pool, Training(), 0, device="cpu", label="victim")
    folder.save(victim, config.parent / "texts")
    pool.save(config.parent / "harmless.npz")
    Pool(sentences(2000, 1)[0]).save(config.parent / "others.npz")
    head = f'{PLANS}[[victims]]\nname = "texts"\nfolder = "texts"\n'
    config.write_text(head)
    flags = ["--set", f'reference = "{config.parent / "harmless.npz"}"', "--set", "rows = 50"]
    rows = ["--rows", str(config.parent / "others.npz"), "--stream", "200", "--streams", "20", "--fpr", "0"]
    main(["calibrate", "texts", "--detector", "mmd", *rows, "--config", str(config), *flags])
    table = capsys.readouterr().out.splitlines()[-1]
    assert tomllib.loads(f"layer = {table}")["layer"]["delta"] < 0.5
    config.write_text(head + "defenses = [" + table.replace("{", '{ reaction = "refuse", ') + "]\n")
    with local_server(config) as server:
        good, bad = (server.endpoint("texts", "free", name) for name in ("good", "bad"))
        for seed in range(4):
            assert len(good(sentences(50, 100 + seed)[0])) == 50
        with pytest.raises(Refused, match="raised an alarm"):
            bad(sentences(50, 9, "the stock market fell by three points on friday")[0])
        assert len(good(sentences(5, 200)[0])) == 5


def test_a_network_is_watched_in_its_own_features(config, network):
    x = np.random.default_rng(0).random((300, *SHAPE), np.float32)
    Pool(x, network.predict(x).argmax(axis=1), tuple("abcde")).save(config.parent / "harmless.npz")
    table = f'{{ type = "mmd", reference = "{config.parent / "harmless.npz"}", delta = 0.02, rows = 40 }}'
    victim = f'[[victims]]\nname = "m"\nfolder = "net"\nmax_rows = 64\ndefenses = [{table}]\n'
    config.write_text(PLANS + victim)
    with local_server(config) as server:
        admin = server.headers("admin", "root")
        server.endpoint("m", "free", "good")(np.random.default_rng(1).random((40, *SHAPE), np.float32))
        assert server.client.get("/admin/alarms", headers=admin).json() == []
        server.endpoint("m", "free", "bad")(np.ones((40, *SHAPE), np.float32))
        (alarm,) = server.client.get("/admin/alarms", headers=admin).json()
        assert (alarm["account"], alarm["detector"], alarm["row"]) == ("bad", "mmd", 40)
