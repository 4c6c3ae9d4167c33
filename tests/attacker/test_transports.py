"""Any attack under any transport; what the server bills, and what the oracle counts, are the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reached import reach

from attacker import Confidence, Jbda, Knockoff
from attacker.extraction.extraction import Extraction
from attacker.membership.membership import Membership
from attacker.transports.disguised import Disguised, averaged
from attacker.transports.paced import Paced
from attacker.transports.split import Split
from attacker.transports.transports import Transports
from cli.keys import read_keys
from defenses.store import open_store
from server.app import create_app, server_secret
from server.control.log import ControlLog
from server.deployment.models import load_all
from server.settings import read_settings
from wire import Answer, Array, BadInput, BudgetSpent, Card, Oracle, Refused
from wire.http import Endpoint
from wire.local import Clock, local_client
from zoo import folder
from zoo.data.pool import Pool, texts
from zoo.network import Network

CONFIG = """
state = "state"
[plans.paying]
price_per_row = "0.0001"
price_per_request = "0.01"

[[victims]]
name = "free"
folder = "net"
max_rows = 40

[[victims]]
name = "daily"
folder = "net"
max_rows = 40
defenses = [{ type = "quota", rows = 100, per = "day" }]
"""
X = np.random.default_rng(3).random((60, 1, 8, 8), np.float32)


class Served:
    """A real server in this process, on a clock that is moved by hand, and its ledger."""

    def __init__(self, config: Path) -> None:
        settings = read_settings(config, state=config.parent / "state")
        self.clock, self._made = Clock(1e9), 0
        store = open_store(settings.store_url())
        self.accounts = ControlLog(store, self.clock).accounts
        secret = asyncio.run(server_secret(store))
        self.app = create_app(settings, store, load_all(settings), secret, self.clock)

    def endpoints(self, model: str, number: int) -> list[Endpoint]:
        """Returns the endpoints of new accounts."""
        names = [f"account-{self._made + n}" for n in range(number)]
        self._made += number
        keys = [asyncio.run(self.accounts.create(name, "paying", "the tests")) for name in names]
        return [
            Endpoint("http://local", model=model, key=key, client=self.client, sleep=self.clock.sleep)
            for key in keys
        ]


@pytest.fixture(scope="module")
def served(victim: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    tmp_path = tmp_path_factory.mktemp("served")
    folder.save(victim, tmp_path / "net")
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "range.toml").write_text(CONFIG)
    server = Served(tmp_path / "range.toml")
    with local_client(server.app) as server.client:
        yield server


WAYS = {
    "one key": Transports(),
    "in turn": Transports(keys=Path("-")),
    "by class": Transports(keys=Path("-"), split="class"),
    "at random": Transports(keys=Path("-"), split="random"),
    "padded": Transports(dummies=0.4),
    "averaged": Transports(repeats=3, nudge=0.01),
    "slow": Transports(pace=2.0, jitter=0.5),
    "everything": Transports(Path("-"), split="random", dummies=0.3, repeats=2, pace=5.0, jitter=0.2),
}
ATTACKS: dict[str, Extraction | Membership] = {
    "knockoff": Knockoff("mlp", epochs=1),
    "jbda": Jbda(seeds=20, rounds=2, family="mlp", epochs=1),
    "confidence": Confidence(),
}


def bill(endpoints: list[Endpoint]) -> dict[str, int]:
    statements = [endpoint.account() or {} for endpoint in endpoints]
    return {
        entry: sum(statement[entry] for statement in statements) for entry in ("rows", "requests", "micro_cents")
    }


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ATTACKS)
def test_rows_billed_are_rows_counted(name: str, way: str, served: Served, digits: Pool) -> None:
    transports, attack = WAYS[way], ATTACKS[name]
    endpoints = served.endpoints("free", 3 if transports.keys else 1)
    clock, rng = served.clock, np.random.default_rng(1)
    oracle = transports.oracle(endpoints, 200, rng, sleep=clock.sleep, now=clock)
    if isinstance(attack, Extraction):
        attack.extract(oracle, digits.take(slice(0, 500)), np.random.default_rng(0))
    else:
        some = digits.take(slice(0, 300))
        assert some.y is not None
        attack.infer(oracle, some.x, some.y, some.take(slice(0)), np.random.default_rng(0))
    counted = {"rows": oracle.spent, "requests": oracle.requests, "micro_cents": oracle.money}
    assert counted == bill(endpoints)
    assert oracle.spent <= 200
    if name == "jbda" and transports.rows_for_one == 1:
        assert oracle.spent == 80  # 20 seeds, doubled twice
    elif name != "jbda":
        assert 200 - oracle.spent < transports.rows_for_one


def test_a_patient_thief_waits_for_days(served: Served, digits: Pool) -> None:
    endpoints, begun = served.endpoints("daily", 1), served.clock.now
    clock = served.clock
    way = Transports()
    oracle = way.oracle(endpoints, 450, np.random.default_rng(0), patience=2e5, sleep=clock.sleep, now=clock)
    Knockoff("mlp", epochs=1).extract(oracle, digits, np.random.default_rng(0))
    assert oracle.spent == 450 == bill(endpoints)["rows"] and oracle.left == 0
    assert 3 * 86400 <= clock.now - begun <= 5 * 86400


def test_many_accounts_need_no_patience(served: Served, digits: Pool) -> None:
    endpoints = served.endpoints("daily", 5)
    way = WAYS["in turn"]
    oracle = way.oracle(endpoints, 600, np.random.default_rng(0), patience=0, sleep=served.clock.sleep)
    answer = oracle.collect(digits.x[:600])
    assert len(answer) == 500 and isinstance(oracle.ended, Refused) and oracle.ended.status == 429
    assert bill(endpoints)["rows"] == oracle.spent == 500


def accounts(victim: Network, *budgets: int | None) -> list[Oracle]:
    return [reach(victim.predict, budget=budget, max_rows=8)[0] for budget in budgets]


@pytest.mark.parametrize("split", ["round-robin", "class", "random"])
def test_answers_come_back_in_order(split: str, victim: Network) -> None:
    oracle = Split(accounts(victim, None, 5, None), None, split, np.random.default_rng(0))  # type: ignore[arg-type]
    answer = oracle.query(X)
    assert np.array_equal(answer.labels, victim.predict(X).argmax(axis=1))
    assert answer.probs == pytest.approx(victim.predict(X), abs=1e-5)
    assert oracle.spent == len(X) and oracle.accounts[1].spent <= 5


def test_accounts_take_turns(victim: Network) -> None:
    made = [reach(victim.predict) for _ in range(3)]
    Split([oracle for oracle, _ in made], None, "round-robin", np.random.default_rng(0)).query(X)
    for turn, (_, recorder) in enumerate(made):
        assert np.array_equal(recorder.rows, X[turn::3])


def test_accounts_split_by_class_see_few_classes(victim: Network, digits: Pool) -> None:
    made = [reach(victim.predict) for _ in range(5)]
    oracle = Split([oracle for oracle, _ in made], None, "class", np.random.default_rng(0))
    oracle.query(digits.x[:800])
    shares = []
    for turn, (_, recorder) in enumerate(made):
        classes = victim.predict(recorder.rows).argmax(axis=1)
        shares.append(float((classes % 5 == turn).mean()))
    assert min(shares) > 0.55  # a fifth of them under the other splits; the first round has no answers to go by


def test_a_bill_survives_the_refusal_of_every_account(victim: Network) -> None:
    oracle = Split(accounts(victim, 10, 7), None, "round-robin", np.random.default_rng(0))
    answer = oracle.collect(X)
    assert len(answer) == oracle.spent == 17 and isinstance(oracle.ended, BudgetSpent)
    assert np.array_equal(answer.labels, victim.predict(X[:17]).argmax(axis=1))
    assert len(oracle.collect(X)) == 0


def disguised(oracle: Oracle, repeats: int = 1, nudge: float = 0.0, dummies: float = 0.0) -> Disguised:
    def draw(n: int) -> Array:
        return np.full((n, *oracle.card.input_shape), 0.5, np.float32)

    rng = np.random.default_rng(0)
    return Disguised(oracle, repeats=repeats, nudge=nudge, dummies=dummies, draw=draw, rng=rng)


def test_dummies_have_their_share_and_rows_their_order(victim: Network) -> None:
    oracle, recorder = reach(victim.predict)
    answer = disguised(oracle, dummies=0.75).query(X)
    filler = (recorder.rows == 0.5).all(axis=(1, 2, 3))
    assert filler.sum() == 3 * len(X) and np.array_equal(recorder.rows[~filler], X)
    assert np.array_equal(answer.labels, victim.predict(X).argmax(axis=1))
    assert np.diff(np.flatnonzero(~filler)).std() > 0  # not like a comb


@pytest.mark.parametrize("budget", range(1, 40, 3))
@pytest.mark.parametrize(("repeats", "dummies"), [(1, 0.3), (2, 0.0), (3, 0.6)])
def test_a_budget_is_kept_with_all_that_is_sent(
    budget: int, repeats: int, dummies: float, victim: Network
) -> None:
    oracle, recorder = reach(victim.predict, budget=budget)
    front = disguised(oracle, repeats=repeats, dummies=dummies)
    left = front.left
    answer = front.collect(X)
    assert len(answer) == left and front.left == 0
    most = Transports(repeats=repeats, dummies=dummies).rows_for_one
    assert budget - most < front.spent <= budget and front.spent == sum(map(len, recorder.batches))


def test_fresh_noise_averages_out(victim: Network) -> None:
    noise = np.random.default_rng(0)

    def noisy(x: Array) -> Array:
        probs = victim.predict(x) + noise.uniform(0, 0.5, (len(x), 10))
        shares: Array = probs / probs.sum(axis=1, keepdims=True)
        return shares

    rows = X[:20]
    errors = []
    for repeats in (1, 16):
        front = disguised(reach(noisy)[0], repeats=repeats)
        probs = front.query(rows).probs
        assert probs is not None
        centred = (victim.predict(rows) + 0.25) / (1 + 2.5)
        errors.append(float(np.abs(probs - centred).mean()))
    assert errors[1] < errors[0] / 2.5


def test_copies_are_moved_within_their_range_and_by_whole_bytes(victim: Network) -> None:
    oracle, recorder = reach(victim.predict)
    oracle.card = replace(oracle.card, dtype="UINT8")
    bytes_ = np.rint(X[:10] * 255).astype(np.float32) / np.float32(255)
    disguised(oracle, repeats=2, nudge=0.02).query(bytes_)
    first, second = recorder.rows[0:10], recorder.rows[10:20]
    assert np.array_equal(first, bytes_) and not np.array_equal(second, first)
    assert np.abs(second * 255 - np.rint(second * 255)).max() < 1e-3
    assert np.abs(second - first).max() < 0.0201 and second.min() >= 0 and second.max() <= 1


def test_averages_of_answers() -> None:
    nan = np.nan
    both = averaged(
        [
            Answer(np.array([0, 1]), np.array([[0.6, nan, nan], [nan, 0.9, nan]], np.float32)),
            Answer(np.array([1]), np.array([[nan, 0.8, nan]], np.float32)),
        ]
    )
    assert both.labels.tolist() == [1, 1] and both.probs is not None
    assert np.allclose(both.probs, [[0.6, 0.8, nan], [nan, 0.9, nan]], equal_nan=True)
    votes = averaged([Answer(np.array([2, 0])), Answer(np.array([1, 1])), Answer(np.array([1, 2]))])
    assert votes.labels.tolist() == [1, 0] and votes.probs is None


def test_pauses_keep_the_pace_and_are_irregular() -> None:
    clock, sent = Clock(), list[float]()

    def transport(x: Array) -> Answer:
        sent.append(clock())
        return Answer(np.zeros(len(x), np.int64))

    rng = np.random.default_rng(0)
    paced = Paced(transport, 10.0, 0.5, rng, sleep=clock.sleep, now=clock)
    for _ in range(200):
        paced(np.zeros((20, 1)))
    pauses = np.diff(sent)
    assert sent[0] == 0 and pauses.min() >= 1 and pauses.max() <= 3
    assert pauses.mean() == pytest.approx(2, rel=0.1) and pauses.std() > 0.4


def test_an_interrupt_ends_a_pause_and_keeps_the_answers(victim: Network) -> None:
    inner, _ = reach(victim.predict)
    stopped: list[Oracle] = []

    def sleep(seconds: float) -> bool:
        stopped[0].halt()
        return True

    paced = Paced(lambda x: inner.query(x), 1.0, 0.0, np.random.default_rng(0), sleep=sleep, now=lambda: 0.0)
    stopped.append(Oracle(paced, inner.card))
    answer = stopped[0].collect(X)
    assert len(answer) == inner.card.max_rows and stopped[0].left == 0


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"dummies": 1.0}, "less than 1"),
        ({"repeats": 0}, "at least 1"),
        ({"jitter": 0.5}, "give a pace"),
        ({"nudge": 0.1}, "repeats"),
        ({"dummy_rows": Path("x")}, "share"),
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, object], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        Transports(**settings)  # type: ignore[arg-type]


def test_texts_need_a_file_of_dummies(tmp_path: Path) -> None:
    card, rng = Card("m", (), 2, dtype="BYTES"), np.random.default_rng(0)
    with pytest.raises(BadInput, match="--dummy-rows"):
        Transports(dummies=0.5).drawn(card, rng)
    Pool(texts(["one", "two"])).save(tmp_path / "texts.npz")
    draw = Transports(dummies=0.5, dummy_rows=tmp_path / "texts.npz").drawn(card, rng)
    assert draw is not None and set(draw(20)) == {"one", "two"}


def test_keys_are_one_a_line(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text("one\n\n two \n")
    assert read_keys(path) == ["one", "two"]
    for content, why in (("", "no keys"), ("a\na", "twice"), ("a\nb c", "key 2")):
        path.write_text(content)
        with pytest.raises(BadInput, match=why):
            read_keys(path)
