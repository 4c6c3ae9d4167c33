import pytest
from parts import Local

from defenses import Consequence, GaussianNoise, Monitored, Prada, Quota
from server.layer_tables import defense_of
from server.settings import DEFAULT, read_settings
from wire import BadInput
from wire.local import local_client

VICTIM = '[plans.p]\n[[victims]]\nname = "v"\nfolder = "f"\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("victims = [", "range.toml"),
        ("[plans.p]", "victims"),
        ("colour = 1\n" + VICTIM, "colour: Extra inputs"),
        (VICTIM + "recipe = {}", "either a folder or a recipe"),
        (VICTIM + VICTIM.partition("\n")[2], "two victims are named v"),
        (VICTIM + 'defenses = [{ type = "moat" }]', "no defence 'moat'; there are rate_limit, quota"),
        (VICTIM + 'defenses = [{ type = "quota", row = 3 }]', "quota has no field 'row'; it has rows, per"),
        (VICTIM + 'defenses = [{ type = "quota" }]', "quota: rows"),
        (VICTIM + 'defenses = [{ type = "quota", rows = "many" }]', "quota: rows"),
        (VICTIM + 'defenses = [{ type = "gaussian_noise", sigma = 1, secret = "x" }]', "no field 'secret'"),
        (VICTIM + 'defenses = [{ type = "label_only", digits = 1 }]', "no field 'digits'"),
        (VICTIM.replace("[plans.p]", "[plans.p]\nprice_per_row = 0.000000001"), "at most 8 decimals"),
        (VICTIM.replace("[plans.p]", '[plans.p]\nskip = ["moat"]'), "no defence 'moat'"),
        (VICTIM.replace('"v"', '"a/b"'), "name"),
        (VICTIM + 'defenses = [{ type = ["quota"] }]', "no defence ['quota']"),
        (VICTIM + 'defenses = [{ type = "rate_limit", rows_per_second = nan, burst = 5 }]', "positive and finite"),
        (VICTIM + 'defenses = [{ type = "gaussian_noise", sigma = inf }]', "positive and finite"),
        (VICTIM + 'defenses = [{ type = "temperature", temperature = nan }]', "positive and finite"),
        *[
            (
                VICTIM.replace("[plans.p]", f"[plans.p]\nprice_per_row = {price}"),
                "a price is a number from 0 to 1000",
            )
            for price in ('"abc"', "true", '"1e999999"', '"1e400"', "-1")
        ],
        ("port = 99999\n" + VICTIM, "port"),
    ],
)
def test_settings_that_make_no_sense_are_named(tmp_path, text, fault):
    (tmp_path / "range.toml").write_text(text)
    with pytest.raises(BadInput) as caught:
        read_settings(tmp_path / "range.toml")
    assert fault in str(caught.value) and "\n" not in str(caught.value)


def test_folders_are_relative_to_the_file_and_flags_win(tmp_path):
    layer = 'defenses = [{ type = "ood_filter", folder = "n" }, { type = "ood", folder = "/n", delta = 0.1 }]\n'
    plan = '[plans.p]\ndefenses = [{ type = "ood_filter", folder = "p" }]'
    (tmp_path / "range.toml").write_text('state = "s"\n' + VICTIM.replace("[plans.p]", plan) + layer)
    settings = read_settings(tmp_path / "range.toml", port=1234, host=None)
    assert settings.victims[0].folder == tmp_path / "f"
    assert [layer["folder"] for layer in settings.victims[0].defenses] == [str(tmp_path / "n"), "/n"]
    assert settings.plans["p"].defenses[0]["folder"] == str(tmp_path / "p")
    assert settings.store_url() == f"sqlite:///{tmp_path / 's' / 'range.sqlite'}"
    assert (settings.host, settings.port) == ("127.0.0.1", 1234)
    assert read_settings(tmp_path / "range.toml", state=tmp_path / "t").state == tmp_path / "t"


def test_there_are_settings_without_a_file():
    assert set(read_settings(None).plans) == set(DEFAULT["plans"]) == {"attacker", "owner", "admin"}


def test_a_table_is_a_defence():
    assert defense_of({"type": "gaussian_noise", "sigma": 1}) == GaussianNoise(1.0)
    assert defense_of({"type": "quota", "rows": 5}) == Quota(5)
    watched = defense_of({"type": "prada", "delta": 0.9, "reaction": "slow"})
    assert watched == Monitored(Prada(0.9), "prada", Consequence("slow"))


def test_two_layers_of_one_limit_are_refused_and_quotas_of_two_periods_stand_together(config):
    text = config.read_text()
    quotas = '{ type = "quota", rows = 10, per = "minute" },\n    { type = "quota", rows = 500, per = "day" },'
    config.write_text(text.replace('{ type = "quota", rows = 500, per = "day" },', quotas))
    local = Local(config)
    left = local.app.service.of_plan("paying")["limited"].admission.left({}, 1e9)
    assert {name.partition("/")[2] for name in left} == {"rate_limit", "quota/minute", "quota/day"}
    config.write_text(
        text.replace(
            '{ type = "quota"', '{ type = "rate_limit", rows_per_second = 1, burst = 9 },\n    { type = "quota"'
        )
    )
    with pytest.raises(BadInput, match="two limits share the counter limited/rate_limit"):
        Local(config)


def planned(config, layers):
    config.write_text(config.read_text().replace("[plans.free]", f"[plans.free]\ndefenses = [{layers}]"))
    return Local(config)


def test_a_plans_layers_stand_outside_every_victims(config, rows):
    local = planned(config, '{ type = "quota", rows = 10 }, { type = "top_k", k = 1 }')
    key = {"Authorization": f"Bearer {local.account('ann', 'free')}"}
    with local_client(local.app) as client:
        for model, told in (("open", 1), ("limited", 1), ("labels", None)):
            reply = client.post(f"/v1/models/{model}:predict", json={"instances": rows[:3].tolist()}, headers=key)
            probs = reply.json()["predictions"][0].get("probabilities")
            assert (probs and sum(p is not None for p in probs)) == told
            assert reply.headers["RateLimit-Policy"].startswith('"all-day";q=10;w=86400')
        reply = client.post("/v1/models/open:predict", json={"instances": rows[:2].tolist()}, headers=key)
        assert reply.status_code == 429 and "1 left of 10" in reply.json()["detail"]  # over all models together
        left = client.get("/v1/account", headers=key).json()["rows_left"]
        assert left == {"*/quota/day": 1}


@pytest.mark.parametrize(
    ("layers", "fault"),
    [
        ('{ type = "label_only" }', None),
        ('{ type = "rounding", digits = 1 }', None),
        ('{ type = "label_only" }, { type = "top_k", k = 1 }', "plan free: label_only"),
        ('{ type = "top_k", k = 1 }, { type = "label_only" }', "plan free: top_k"),
        ('{ type = "gaussian_noise", sigma = 0.1 }', "victim limited, plan free: gaussian_noise"),
        ('{ type = "quota", rows = 1 }, { type = "quota", rows = 2 }', "two limits"),
        (
            '{ type = "rate_limit", rows_per_second = 9, burst = 63 }',
            "63 rows never admits a full request of 64 rows",
        ),
        ('{ type = "label_only" }, { type = "quota", rows = 1 }', "must come first"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(config, layers, fault):
    if fault is None:
        planned(config, layers)
        return
    with pytest.raises(BadInput, match=fault):
        planned(config, layers)
