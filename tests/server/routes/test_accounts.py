import asyncio
import tomllib

import pytest
from parts import Local, local_server

from defenses.store import open_store
from server.control.log import ControlLog
from wire import BadInput, Oracle, Refused
from wire.local import local_client
from wire.patient import Patient


def test_an_account_is_told_its_bill_and_its_limits(local, rows):
    endpoint = local.endpoint("limited")
    oracle = Oracle(endpoint, endpoint.card, prices=endpoint.prices())
    oracle.query(rows[:100])
    account = endpoint.account()
    assert account["models"]["limited"] == {"rows": 100, "requests": 2, "micro_cents": 100 * 10**4 + 2 * 10**6}
    assert (account["rows"], account["micro_cents"]) == (oracle.spent, oracle.money)
    assert account["rows_left"] == {"limited/rate_limit": 28, "limited/quota/day": 400}
    per_token = {"per_prompt_token": 0, "per_completion_token": 0}
    assert account["prices"] == {"per_row": 10**4, "per_request": 10**6, **per_token}


def test_limits_refuse_with_what_a_client_needs(local, rows):
    endpoint = local.endpoint("limited")
    endpoint(rows[:64]), endpoint(rows[:64])
    with pytest.raises(Refused, match="asked for 64 rows with 0 in the bucket") as caught:
        endpoint(rows[:64])
    assert (caught.value.status, caught.value.retry_after, caught.value.left) == (429, 1, 0)
    local.clock.sleep(1)
    endpoint(rows[:64])


def test_every_answer_tells_what_is_left(local, rows):
    headers, client = local.headers(), local.client

    def told(model, path, body, status=200):
        reply = client.post(path.format(model), json=body, headers=headers)
        assert reply.status_code == status
        return reply.headers.get("RateLimit-Policy"), reply.headers.get("RateLimit")

    predict, body = "/v1/models/{}:predict", {"instances": rows[:60].tolist()}
    end = 86400 - 10**9 % 86400
    policies = '"rows";q=128;w=2, "day";q=500;w=86400'
    assert told("limited", predict, body) == (policies, f'"rows";r=68;t=1, "day";r=440;t={end}')
    local.clock.sleep(0.25)
    infer = {"inputs": [{"name": "input", "shape": [64, *rows.shape[1:]], "datatype": "FP32", "data": []}]}
    assert told("limited", "/v2/models/{}/infer", infer, 400) == (None, None)
    infer["inputs"][0]["data"] = rows[:64].tolist()
    assert told("limited", "/v2/models/{}/infer", infer) == (policies, f'"rows";r=29;t=1, "day";r=376;t={end}')
    left = client.get("/v1/account", headers=headers)
    assert left.json()["rows_left"] == {"limited/rate_limit": 29, "limited/quota/day": 376}
    assert "RateLimit" not in left.headers
    assert told("limited", predict, body, 429) == ('"rows";q=128;w=2', '"rows";r=29;t=1')
    assert told("open", predict, body) == (None, None)  # has no limits


def test_a_patient_client_spends_the_quota_to_the_last_row(local, rows):
    endpoint = local.endpoint("limited")
    oracle = Oracle(Patient(endpoint, patience=60, sleep=local.clock.sleep), endpoint.card)
    assert len(oracle.collect(rows)) == 300
    assert len(oracle.collect(rows)) == 200
    assert "with 0 left of 500 this day" in str(oracle.ended)
    assert oracle.spent == endpoint.account()["rows"] == 500


def test_a_plan_is_spared_what_it_skips(local, rows):
    endpoint = local.endpoint("limited", plan="free")
    oracle = Oracle(endpoint, endpoint.card)
    oracle.query(rows), oracle.query(rows)
    account = endpoint.account()
    assert account["rows"] == 600 and account["rows_left"] == {} and account["micro_cents"] == 0


def test_a_restart_loses_no_account_quota_or_bill(local, config, rows):
    headers = local.headers()
    body = {"instances": rows[:50].tolist()}
    first = local.client.post("/v1/models/limited:predict", json=body, headers=headers)
    assert first.status_code == 200
    before = local.client.get("/v1/account", headers=headers).json()
    with local_server(config, local.clock) as again:
        client = again.client
        assert client.get("/v1/account", headers=headers).json() == before
        # the noise is the same too
        assert client.post("/v1/models/limited:predict", json=body, headers=headers).content == first.content
        assert client.get("/v1/account", headers=headers).json()["rows_left"]["limited/quota/day"] == 400


def test_a_request_that_is_retried_under_its_id_is_billed_once(local, rows):
    headers = local.headers()
    body = {"instances": rows[:3].tolist(), "id": "r1"}
    for _ in range(3):
        assert local.client.post("/v1/models/open:predict", json=body, headers=headers).status_code == 200
    assert local.client.get("/v1/account", headers=headers).json()["rows"] == 3
    local.client.post("/v1/models/open:predict", json={**body, "instances": rows[3:6].tolist()}, headers=headers)
    local.client.post("/v1/models/labels:predict", json=body, headers=headers)
    assert local.client.get("/v1/account", headers=headers).json()["rows"] == 9


def test_the_store_holds_no_key(local, config):
    key = local.account()
    assert key.encode() not in b"".join(p.read_bytes() for p in (config.parent / "state").iterdir() if p.is_file())


def test_names_are_taken_once_and_checked(local):
    local.account("twice")
    for name, fault in (("twice", "already"), ("", "expected"), ("a/b", "expected"), ("x" * 65, "expected")):
        with pytest.raises(BadInput, match=fault):
            asyncio.run(ControlLog(local.store, local.clock).accounts.create(name, "free", "a test"))


def test_only_an_administrator_administrates(local):
    admin, other = local.headers("admin", "root"), local.headers("free", "other")
    client = local.client
    for headers, status in (({}, 401), (other, 403), (admin, 200)):
        assert client.get("/admin/accounts", headers=headers).status_code == status
        assert client.get("/admin/models/limited/defenses", headers=headers).status_code == status
    made = client.post("/admin/accounts", json={"name": "new", "plan": "paying"}, headers=admin).json()
    assert client.get("/v1/account", headers={"Authorization": f"Bearer {made['key']}"}).json()["account"] == "new"
    names = [account["account"] for account in client.get("/admin/accounts", headers=admin).json()]
    assert names == ["new", "other", "root"]
    stack = client.get("/admin/models/limited/defenses", headers=admin).json()["defenses"]
    assert [layer["type"] for layer in stack] == ["rate_limit", "quota", "rounding", "top_k", "gaussian_noise"]
    for body, status, fault in (
        ({"name": "n", "plan": "no"}, 400, "there are paying"),
        ({"name": "n"}, 400, "plan"),
        ({"name": "new", "plan": "free"}, 400, "already"),
    ):
        reply = client.post("/admin/accounts", json=body, headers=admin)
        assert reply.status_code == status and fault in reply.json()["detail"]


def test_a_receipt_holds_for_the_rows_it_was_given_for(local, rows):
    tensor = {"name": "input", "shape": [40, 1, 8, 8], "datatype": "FP32", "data": rows[:40].ravel().tolist()}
    both = {"id": "x", "instances": rows[:1].tolist(), "inputs": [tensor]}
    headers = local.headers()
    assert local.client.post("/v1/models/open:predict", json=both, headers=headers).status_code == 200
    assert local.client.post("/v2/models/open/infer", json=both, headers=headers).status_code == 200
    assert local.client.get("/v1/account", headers=headers).json()["rows"] == 41


def test_who_is_no_administrator_learns_nothing_of_the_schema(local):
    assert local.client.post("/admin/accounts", json={}).status_code == 401
    assert local.client.post("/admin/accounts", json={}, headers=local.headers()).status_code == 403


def answers(local, key, model="open", rows=1):
    body = {"instances": [[[[0.5] * 8] * 8]] * rows}
    return local.client.post(f"/v1/models/{model}:predict", json=body, headers={"Authorization": f"Bearer {key}"})


def test_an_administrator_makes_rotates_and_revokes_keys(local):
    admin, client = local.headers("admin", "root"), local.client
    key = client.post("/admin/accounts", json={"name": "new", "plan": "paying"}, headers=admin).json()["key"]
    further = client.post("/admin/accounts/new/keys", headers=admin).json()["key"]
    ids = client.get("/admin/accounts/new/keys", headers=admin).json()["keys"]
    assert [answers(local, k).status_code for k in (key, further)] == [200, 200] and len(ids) == 2
    assert client.delete(f"/admin/accounts/new/keys/{ids[0]}", headers=admin).json() == {"revoked": 1}
    assert [answers(local, k).status_code for k in (key, further)] == [401, 200]
    rotated = client.post("/admin/accounts/new/keys/rotate", headers=admin).json()["key"]
    assert [answers(local, k).status_code for k in (further, rotated)] == [401, 200]
    assert client.delete("/admin/accounts/new/keys", headers=admin).json() == {"revoked": 1}
    assert answers(local, rotated).status_code == 401
    for verb, path in (("DELETE", "keys"), ("GET", "keys"), ("POST", "keys/rotate")):
        assert client.request(verb, f"/admin/accounts/nobody/{path}", headers=admin).status_code == 404
    events = client.get("/admin/audit", headers=admin).json()
    assert [e["do"] for e in events if e["by"] == "root"] == [
        *("create account", "create key", "revoke keys"),
        *("create key", "revoke keys", "revoke keys"),
    ]


def test_another_process_revokes_a_key_and_the_server_holds_to_it(local):
    key = local.account("ann")
    assert answers(local, key).status_code == 200
    other = ControlLog(open_store(local.settings.store_url()), local.clock)
    asyncio.run(other.accounts.revoke("ann", "another process"))
    assert answers(local, key).status_code == 401
    assert local.client.get("/v1/account", headers={"Authorization": f"Bearer {key}"}).status_code == 401


def test_an_account_changes_its_plan(local):
    admin, key = local.headers("admin", "root"), local.account("ann", "free")
    answers(local, key)
    put = local.client.put("/admin/accounts/ann/plan", json={"plan": "paying"}, headers=admin)
    assert put.json() == {"name": "ann", "plan": "paying"}
    answers(local, key)
    account = local.client.get("/v1/account", headers={"Authorization": f"Bearer {key}"}).json()
    assert (account["plan"], account["micro_cents"], account["requests"]) == ("paying", 10**4 + 10**6, 2)
    assert local.client.put("/admin/accounts/ann/plan", json={"plan": "x"}, headers=admin).status_code == 400


def test_a_stack_is_replaced_while_it_serves(local, config):
    admin, key, client = local.headers("admin", "root"), local.account("ann"), local.client
    path = "/admin/models/open/defenses"
    assert "probabilities" in answers(local, key).json()["predictions"][0]
    stack = {"defenses": [{"type": "quota", "rows": 5, "per": "day"}, {"type": "label_only"}]}
    assert client.put(path, json=stack, headers=admin).json() == stack
    assert client.get(path, headers=admin).json() == stack
    assert "probabilities" not in answers(local, key).json()["predictions"][0]
    assert answers(local, key, rows=5).status_code == 429
    outputs = client.get("/v2/models/open", headers=admin).json()["outputs"]
    assert [output["name"] for output in outputs] == ["labels"]
    # It is read back as the configuration would say it, outlives a restart, and is put there again as it was read.
    toml = client.get(path, headers={**admin, "Accept": "application/toml"}).text
    assert tomllib.loads(toml) == stack
    with local_server(config, local.clock) as again:
        second = again.client
        assert second.get(path, headers=admin).json() == stack
        back = second.put(path, content=toml, headers={**admin, "Content-Type": "application/toml"})
        assert back.json() == stack
    assert client.delete(path, headers=admin).json() == {"defenses": []}
    assert "probabilities" in answers(local, key).json()["predictions"][0]
    events = client.get("/admin/audit", headers=admin).json()
    assert [e["do"] for e in events][-3:] == ["replace defenses", "replace defenses", "restore defenses"]


def test_a_stack_that_makes_no_sense_changes_nothing(local):
    admin, path = local.headers("admin", "root"), "/admin/models/open/defenses"
    for stack, fault in (
        ([{"type": "nothing"}], "no defence 'nothing'"),
        ([{"type": "quota"}], "rows"),
        ([{"type": "rounding", "digits": 2}, {"type": "label_only"}], "labels"),
        ([{"type": "rate_limit", "rows_per_second": 1, "burst": 3}], "burst of 3"),
        ([{"type": "gaussian_noise", "sigma": 0.1, "secret": "x"}], "secret"),
        ("x", "not a stack"),
    ):
        reply = local.client.put(path, json={"defenses": stack}, headers=admin)
        assert reply.status_code == 400 and fault in reply.json()["detail"], reply.json()
    toml = {**admin, "Content-Type": "application/toml"}
    for content, status in (("defenses = [", 400), ("defenses = " + "[" * 9000, 400), ("a." * 9000, 413)):
        assert local.client.put(path, content=content, headers=toml).status_code == status
    assert local.client.put(path, content=b"{", headers=admin).status_code == 400
    assert local.client.put("/admin/models/none/defenses", json={"defenses": []}, headers=admin).status_code == 404
    assert local.client.get(path, headers=admin).json() == {"defenses": []}


def settings_change(config, control):
    config.write_text(config.read_text().replace("max_rows = 64", "max_rows = 65", 1))


def register_does_not_fit(config, control):
    asyncio.run(control.stacks.replace("open", [{"type": "dawn", "rate": 0.2}], "who does not try it"))


@pytest.mark.parametrize(
    ("layer", "change"),
    [
        ({"type": "rate_limit", "rows_per_second": 100, "burst": 64}, settings_change),
        ({"type": "dawn", "rate": 0.1}, register_does_not_fit),
    ],
)
def test_a_stack_that_cannot_be_used_after_a_restart_withdraws_its_model_alone(local, config, layer, change):
    admin, key, path = local.headers("admin", "root"), local.account("ann"), "/admin/models/open/defenses"
    assert local.client.put(path, json={"defenses": [layer]}, headers=admin).status_code == 200
    change(config, ControlLog(open_store(local.settings.store_url()), local.clock))
    again = Local(config, clock=local.clock)
    asyncio.run(again.app.service.begin())
    with local_client(again.app) as again.client:
        ready = again.client.get("/v2/health/ready")
        for reply in (answers(again, key), ready, again.client.get("/v2/models/open/ready", headers=admin)):
            assert reply.status_code == 503 and "withdrawn" in reply.json()["detail"]
            assert "with these settings: open; DELETE" in reply.json()["detail"]
        assert again.client.get("/v2/models/labels/ready", headers=admin).status_code == 200
        assert again.client.delete(path, headers=admin).status_code == 200
        assert answers(again, key).status_code == 200
        assert again.client.get("/v2/health/ready").status_code == 200


def test_a_request_that_meets_a_replaced_stack_is_asked_again(local, rows):
    """Another process replaces the stack: the next request is already answered, and billed, by the new one."""
    key = local.account("ann")
    answers(local, key)
    other = ControlLog(open_store(local.settings.store_url()), local.clock)
    asyncio.run(other.stacks.replace("open", [{"type": "label_only"}], "another process"))
    assert "probabilities" not in answers(local, key).json()["predictions"][0]
    account = local.client.get("/v1/account", headers={"Authorization": f"Bearer {key}"}).json()
    assert account["requests"] == 2
