"""DAWN's median mapping at a live API: near-duplicates get the same label, and a judge sees why."""

import asyncio
from contextlib import nullcontext

import numpy as np
import pytest
from parts import SHAPE, Local, local_server

from defenses.watermarks.key import WatermarkKey
from defenses.watermarks.ledger import Opening
from defenses.watermarks.mapping import cells
from owner.dawn import Claim, Dawn
from owner.judge import judge
from owner.ownership import prove
from owner.runner import of_folder
from wire import Answer, BadInput, Oracle
from zoo.data.pool import Pool
from zoo.families import FAMILIES
from zoo.network import Network
from zoo.penultimate import penultimate

MAPPED = """
state = "state"
[plans.free]
[plans.admin]
admin = true
[[victims]]
name = "marked"
folder = "net"
engine = "torch"
max_rows = 64
defenses = [{ type = "dawn", rate = 0.3, mapping = "median" }]
"""


@pytest.fixture(scope="session")
def network():
    return Network.new(FAMILIES["mlp"](hidden=(96,)), SHAPE, tuple("abcde"), seed=1, device="cpu")


@pytest.fixture
def begun(config, rows):
    """A configuration whose medians were made at a first start; the file of their rows is not needed again."""
    config.write_text(MAPPED)
    with pytest.raises(BadInput, match=r"victim marked: dawn: .*needs a pool of rows"):
        asyncio.run(Local(config).app.service.begin())
    for pool, fault in ((rows[:, :, 1:], r"rows.npz: .*shape \(1, 8, 8\), not \(1, 7, 8\)"), (rows, None)):
        Pool(pool).save(config.parent / "rows.npz")
        config.write_text(MAPPED.replace('"median"', f'"median", pool = "{config.parent / "rows.npz"}"'))
        with nullcontext() if fault is None else pytest.raises(BadInput, match=fault):
            asyncio.run(Local(config).app.service.begin())
    config.write_text(MAPPED)
    return config


def asked(config, name, *queries):
    """Starts a server, and returns its answers about rows, the marks of the account ``before``, and their key."""
    with local_server(config) as server:
        client = server.client
        endpoint = server.endpoint("marked", "free", name)
        told = [
            np.concatenate([endpoint(x[at : at + n]).labels for at in range(0, len(x), n)]) for x, n in queries
        ]
        admin = server.headers("admin", f"admin-{name}")
        place = "/admin/models/marked/marks"
        client.post(f"{place}/commit", headers=admin)
        opening = Opening.from_json(client.get(f"{place}/before", headers=admin).content, "there")
        return told, opening, client.post(f"{place}/open", headers=admin).json()["key"]


def test_near_duplicates_get_the_same_label_in_any_company_and_after_a_restart(begun, network, rows):
    near = np.nextafter(rows, np.float32(2))
    limits = np.median(penultimate(network).logits(rows), axis=0)
    above, beside = (penultimate(network).logits(x) > limits for x in (rows, near))
    alike = (above == beside).all(axis=1)
    before, opening, key = asked(begun, "before", (rows, 64), (near, 64))
    begun.write_text(MAPPED.replace('engine = "torch"', 'engine = "auto"'))
    after, reopened, _ = asked(begun, "after", (near, 7), (rows, 64), (rows[:60], 1))

    said, first = network.predict(rows).argmax(axis=1), before[0]
    marked = WatermarkKey(bytes.fromhex(key)).marked(0.3, *cells(above))
    assert np.flatnonzero(first != said).tolist() == marked and 50 < len(marked) < 140
    assert alike.sum() > 290
    np.testing.assert_array_equal(before[1], after[0])
    np.testing.assert_array_equal(before[1][alike], first[alike])
    np.testing.assert_array_equal(after[1], first)
    np.testing.assert_array_equal(after[2], first[:60])
    assert reopened.entries == opening.entries

    known = {row.tobytes(): label for row, label in zip([*rows, *near], [*first, *before[1]], strict=True)}
    victim = of_folder(begun.parent / "net")
    thief = Oracle(lambda x: Answer(np.array([known[row.tobytes()] for row in x])), victim.oracle.card)
    claim = Claim(opening, {}, lambda: key)
    evidence = prove(Dawn(bits=10), thief, claim, np.random.default_rng(0))
    found = judge(Dawn(bits=10), evidence, opening.root, victim, thief, {})
    assert found.verdict == "accused" and found.details.marks == found.details.matches >= len(marked)
    assert found.details.repeated > 40 and found.details.doubtful == 0
