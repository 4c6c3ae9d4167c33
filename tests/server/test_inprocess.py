"""A served victim in twenty lines, as in a notebook."""

import asyncio
import subprocess
import sys

import numpy as np
import pytest

from defenses import Consequence, Monitored, Prada, Quota, RateLimit, Rounding
from server import serve
from server.inprocess import table_of
from server.layer_tables import defense_of
from wire import BadInput, BudgetSpent, Refused
from zoo import folder


@pytest.fixture
def state(tmp_path, cache):
    """A state folder in which the network is exported already."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "cache").symlink_to(cache)
    return tmp_path / "state"


def test_a_victim_is_asked_defended_and_billed(network, rows, state):
    with serve(network, defenses=[Quota(40), Rounding(1)], state=state, progress=False) as api:
        oracle = api.oracle(budget=30)
        answer = oracle.query(rows[:20])
        np.testing.assert_array_equal(answer.labels, network.predict(rows[:20]).argmax(axis=1))
        np.testing.assert_array_equal(answer.probs, answer.probs.round(1))
        with pytest.raises(BudgetSpent):
            oracle.query(rows[:20])
        with pytest.raises(Refused, match="with 0 left of 40"):
            api.oracle(patience=0).query(rows[:30])
        owner = api.oracle(plan="owner")
        assert len(owner.query(rows)) == len(rows)  # the plan skips quotas
        assert api.account()["rows"] == 40 and api.account("owner")["rows"] == len(rows)
        assert api.account()["micro_cents"] == 40 * oracle.prices.per_row == 2 * oracle.money > 0
        with pytest.raises(BadInput, match="no plan 'none'"):
            api.oracle(plan="none")


def test_a_detector_raises_an_alarm(network, thief, state):
    defenses = [Monitored(Prada(0.95), "prada", Consequence("refuse"))]
    with serve(network, defenses=defenses, max_rows=20, state=state, progress=False) as api:
        collected = api.oracle().collect(thief)
        (alarm,) = api.alarms()
        assert (alarm.account, alarm.detector, alarm.reaction) == ("attacker", "prada", "refuse")
        assert len(collected) == (alarm.row - 1) // 20 * 20


def test_a_saved_victim_is_served_from_its_folder_and_keeps_its_state(network, rows, tmp_path, state):
    folder.save(network, tmp_path / "net")
    for asked in (3, 6):
        with serve(tmp_path / "net", state=state, progress=False) as api:
            api.oracle().query(rows[:3])
            assert api.account()["rows"] == asked


async def test_it_works_beside_a_running_loop_as_in_a_notebook(network, rows):
    assert asyncio.get_running_loop().is_running()
    with serve(network, progress=False) as api:
        assert len(api.oracle().query(rows[:2])) == 2


def test_a_bar_is_shown_unless_it_is_switched_off(network, rows, state, capsys):
    with serve(network, state=state) as api:
        api.oracle(budget=2).query(rows[:2])
        assert "2/2" in capsys.readouterr().err
        api.oracle(budget=2, progress=False).query(rows[:2])
        assert not capsys.readouterr().err


@pytest.mark.parametrize(
    "defense",
    [RateLimit(10, 2000), Rounding(2), Monitored(Prada(0.9), "prada", Consequence("coarsen", 1, open=True))],
    ids=repr,
)
def test_a_table_describes_a_defence_completely(defense):
    assert defense_of(table_of(defense)) == defense


def test_what_is_no_defence_is_named():
    with pytest.raises(BadInput, match="3 is not a registered defence; there are rate_limit"):
        table_of(3)


def test_the_package_is_imported_without_torch():
    script = "import sys, server; assert 'torch' not in sys.modules; assert callable(server.serve); server.other"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.stderr.endswith("AttributeError: module 'server' has no attribute 'other'\n")
