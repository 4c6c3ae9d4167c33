"""Detectors over the prompts of a language model, through its own features and through a classifier of texts."""

import sys
from pathlib import Path

import pytest

from tests.tiny_language import sentences, tiny
from wire.local import local_client
from zoo import folder
from zoo.data.pool import Pool, texts
from zoo.families import FAMILIES
from zoo.training import Training

sys.path.insert(0, str(Path(__file__).parents[1] / "protocols"))
from speaking import CONFIG, Speaking

LIMITS = """    { type = "rate_limit", rows_per_second = 1, burst = 200 },
    { type = "quota", rows = 400, per = "day" },
"""
ODD = [f"{n} stocks fell {n}% #{n}" for n in range(200)]
BEFORE = [ODD[:7], ODD[7:14], ODD[14:21], ODD[21:29]]  # one row less than a window


@pytest.fixture
def served(tmp_path, network, cache):
    """Returns a function from a detector's table to a server of a language model that it watches."""
    folder.save(network, tmp_path / "net")
    tiny().save(tmp_path / "kjv")
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "cache").symlink_to(cache)
    Pool(texts(sentences()[:150])).save(tmp_path / "harmless.npz")
    pool = Pool(texts(sentences()[:150])).against(Pool(texts(ODD)))
    folder.save(FAMILIES["tfidf"]().train(pool, Training(), 0, device="cpu", label="filter"), tmp_path / "filter")

    def server(table):
        plans = "[plans.admin]\nadmin = true\n[plans.free]"
        text = CONFIG.replace(LIMITS, f"    {table},\n").replace("[plans.free]", plans, 1)
        (tmp_path / "range.toml").write_text(text)
        return Speaking(tmp_path / "range.toml")

    return server


def asked(api, plan, prompts):
    return [api.post(plan=plan, prompt=prompt, max_tokens=1).status_code for prompt in prompts]


@pytest.mark.parametrize(
    "table",
    [
        '{ type = "mmd", reference = "harmless.npz", by_class = false, delta = 0.05, rows = 30, reaction = "R" }',
        '{ type = "ood", folder = "filter", delta = 0.5, rows = 30, reaction = "R" }',
    ],
)
def test_an_account_with_other_prompts_is_flagged_and_one_with_the_model_s_is_not(table, served):
    api = served(table.replace('"R"', '"refuse"'))
    with local_client(api.app) as api.client:
        assert set(asked(api, "free", sentences()[150:195])) == {200}
        statuses = asked(api, "paying", [ODD[n : n + 10] for n in (0, 10, 20, 30)])
        assert statuses == [200, 200, 403, 403]  # the request in which the alarm falls, and all later ones
        assert api.billed()[2] == 2
        (alarm,) = api.client.get("http://local/admin/alarms", headers=api.headers("admin", "root")).json()
        assert (alarm["account"], alarm["model"], alarm["row"]) == ("paying", "kjv", 30)
        assert set(asked(api, "free", sentences()[195:200])) == {200}


def test_a_slowed_account_passes_once_and_waits(served):
    api = served('{ type = "ood", folder = "filter", delta = 0.5, rows = 30, reaction = "slow" }')
    with local_client(api.app) as api.client:
        assert asked(api, "paying", BEFORE) == [200] * 4
        statuses = asked(api, "paying", ODD[29:32])
        assert statuses[0] == 429 and 429 in statuses[1:]
        api.clock.sleep(60)
        assert asked(api, "paying", ODD[29:31]) == [200, 429]


def test_completions_of_one_prompt_are_one_row(served):
    api = served('{ type = "ood", folder = "filter", delta = 0.5, rows = 30, reaction = "log" }')
    with local_client(api.app) as api.client:
        assert api.post(plan="free", prompt=ODD[0], n=40, max_tokens=1).status_code == 200
        root = api.headers("admin", "root")
        assert api.client.get("http://local/admin/alarms", headers=root).json() == []
        assert set(asked(api, "free", BEFORE)) == {200}
        (alarm,) = api.client.get("http://local/admin/alarms", headers=root).json()
        assert alarm["row"] == 30


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('{ type = "prada", delta = 0.9 }', "prada watches rows of numbers"),
        ('{ type = "ood", folder = "filter", delta = 0.5, reaction = "coarsen" }', "expected log, refuse, slow"),
    ],
)
def test_what_cannot_watch_prompts_is_refused(table, said, served):
    with pytest.raises(ValueError, match=said):
        served(table)
