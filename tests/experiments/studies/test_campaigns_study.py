import json
from pathlib import Path

import numpy as np
import pytest

from defenses import Campaign
from defenses.detectors.detector import Alarm, Sent
from experiments.studies import campaigns
from experiments.studies.campaign_log import (
    KINDS,
    LINKS,
    START,
    customers,
    during,
    outcome,
    places,
    places_together,
    theft,
)
from wire import Origin

IMAGES = {"own": np.arange(600), "scanner": np.arange(600, 1000), "films": np.arange(1000, 1600)}


def drawn(name="a", accounts=40):
    return customers(np.random.default_rng(0), IMAGES, np.arange(600) % 10, accounts, name)


def test_customers_send_what_their_kind_sends():
    streams = drawn()
    assert [sum(stream.kind == kind for stream in streams) for kind in KINDS] == [40] * 7
    for stream in streams:
        assert len(stream.rows) == len(stream.times) and (np.diff(stream.times) >= 0).all()
        assert stream.times[0] >= START and stream.times[-1] < START + 3 * 86_400
        own, scanned = (stream.rows < 600).mean(), ((stream.rows >= 600) & (stream.rows < 1000)).mean()
        assert own == {"scanner": 0, "films": 0}.get(stream.kind, own) and (stream.kind == "scanner") == (
            scanned == 1
        )
        if stream.kind == "one class":
            assert len(set(stream.rows % 10)) == 1
        if stream.kind == "films":
            assert (stream.rows.reshape(-1, 30) == stream.rows[::30, None] + np.arange(30)).all()


def test_resellers_share_a_payer_and_students_a_network_and_an_hour():
    streams, others = drawn(), drawn("b")
    by_kind = {kind: [s.origin for s in streams if s.kind == kind] for kind in KINDS}
    assert len(set(by_kind["own"])) == 40
    assert len({origin.payment for origin in by_kind["resellers"]}) == 8
    students = by_kind["students"]
    assert len({origin.prefix for origin in students}) == 2 and len({o.payment for o in students}) == 40
    begins = np.array([s.times[0] for s in streams if s.kind == "students"]).reshape(2, 20)
    assert (np.ptp(begins, axis=1) < 600).all()
    assert not {s.origin.prefix for s in streams} & {s.origin.prefix for s in others}


@pytest.mark.parametrize("links", LINKS)
def test_a_theft_sends_its_rows_in_order_over_all_accounts(links):
    rng, rows = np.random.default_rng(1), np.arange(100, 300)
    streams, of, real = theft(rng, rows, np.arange(50), 0.5, 25, links, 300)
    assert len(of) == 300 and real.sum() == 150 and set(of) == set(range(25))
    sent = np.empty(300, np.int64)
    times = np.empty(300)
    for account, stream in enumerate(streams):
        sent[of == account], times[of == account] = stream.rows, stream.times
    assert sent[real].tolist() == rows[:150].tolist() and (sent[~real] < 50).all()
    origins = [stream.origin for stream in streams]
    assert len({origin.payment for origin in origins}) == (1 if links == "one payer" else 25)
    assert (len({origin.opened for origin in origins}) == 1) == (links in ("one payer", "proxies"))
    if links == "apart":
        assert np.diff([stream.times[0] for stream in streams]).min() > 600
    else:
        assert (np.diff(times) > 0).all()


def test_parts_of_streams_between_two_times():
    streams = drawn()
    parts = list(during(streams, START + 10_000, START + 20_000))
    inside = sum(((s.times >= START + 10_000) & (s.times <= START + 20_000)).sum() for s in streams)
    assert 0 < inside == sum(len(part.rows) for part in parts)


def test_alarms_stop_the_accounts_from_the_row_at_which_they_are_raised():
    of, real = np.arange(12) % 3, np.arange(12) % 2 == 0
    alone = places({0: Alarm(2, 5.0), 2: Alarm(3, 5.0)}, of)
    assert alone == {0: 4, 2: 9}
    # Account 0 is answered at row 1 only, account 2 at rows 3 and 6, account 1 at all of its rows.
    assert outcome(alone, of, real, 3) == {"rows": 4, "real": 2, "accounts": 0.6667, "told": 4}
    assert outcome({}, of, real, 3) == {"rows": None, "real": None, "accounts": 0.0, "told": 6}


def test_accounts_that_are_accused_together_are_refused_from_then_on():
    detector = Campaign(Path("harmless.npz"), delta=0.2, beat=0.0, rows=40)
    x = np.full((100, 4), 0.5, np.float32)
    names = [str(i) for i in range(50)] * 2  # the last ten have not sent a row yet when the others are found
    sent = [Sent(1e9 + i, Origin(payment="p")) for i in range(100)]
    refused, others = places_together(detector, (x, names, sent), 48)
    assert {refused[i] for i in range(40)} == {40} and refused[45] == 48 and others == 2


def trial(quiet):
    """A trial in which only some ways of sending raise no alarm."""
    ways = [
        (share, accounts, links) for share in (0.0, 0.5) for accounts, links in ((1, LINKS[0]), (25, LINKS[2]))
    ]
    return {
        "thefts": [
            {
                "attack": "jbda",
                "share": s,
                "accounts": a,
                "links": x,
                "found": {"mmd": {"rows": None if (s, a) in quiet else 7}},
            }
            for s, a, x in ways
        ]
    }


def test_an_adaptive_thief_takes_the_cheapest_way_that_worked_elsewhere():
    trials = [trial({(0.0, 25), (0.5, 1)}), trial({(0.0, 25), (0.5, 25)}), trial({(0.5, 1), (0.5, 25)})]
    assert campaigns.adapted(trials, "jbda", "mmd", 2) == (0.0, 25, "nothing")
    assert campaigns.adapted(trials, "jbda", "mmd", 1) == (0.5, 1, "one payer")
    assert campaigns.adapted([trial(set()), trial(set())], "jbda", "mmd", 0) is None
    assert campaigns.adapted(trials[:1], "jbda", "mmd", 0) == (0.0, 25, "nothing")  # in hindsight


@pytest.mark.slow
def test_it_measures_and_tells(tmp_path):
    small = campaigns.Campaigns(
        "mnist_digits",
        accounts=20,
        few=4,
        images=300,
        films=20,
        theft=200,
        most=400,
        keys=(1, 25),
        shares=(0.0,),
        trained=600,
        epochs=2,
        sizes=(100,),
        surrogate_epochs=2,
        window=200,
    )
    written = []
    found = json.loads(json.dumps(small.run([0], None, tmp_path, written.append)))
    assert json.loads(json.dumps(written)) == [found]
    thefts = found["trials"]["0"]["thefts"]
    assert len(thefts) == 4 * (1 + 4)
    for row in thefts:
        rows = {name: one["rows"] for name, one in row["found"].items()}
        first = [rows[name] for name in ("prada", "hoda", "ood", "mmd", "campaign") if rows[name] is not None]
        assert rows["together"] == min(first, default=None) and row["sent"] == 200
    assert all(of == 20 for _, of in found["trials"]["0"]["harmless"]["campaign"].values())
    assert "knockoff, foreign images" in campaigns.table(found)
