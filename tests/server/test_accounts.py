import asyncio

import pytest
from parts import Local

from server.registry import Registry
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
    assert account["prices"] == {"per_row": 10**4, "per_request": 10**6}


def test_limits_refuse_with_what_a_client_needs(local, rows):
    endpoint = local.endpoint("limited")
    endpoint(rows[:64]), endpoint(rows[:64])
    with pytest.raises(Refused, match="asked for 64 rows with 0 in the bucket") as caught:
        endpoint(rows[:64])
    assert (caught.value.status, caught.value.retry_after, caught.value.left) == (429, 1, 0)
    local.clock.sleep(1)
    endpoint(rows[:64])


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
    again = Local(config, clock=local.clock)
    before = local.client.get("/v1/account", headers=headers).json()
    with local_client(again.app) as client:
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
    assert key.encode() not in b"".join(p.read_bytes() for p in (config.parent / "state").iterdir())


def test_names_are_taken_once_and_checked(local):
    local.account("twice")
    for name, fault in (("twice", "already"), ("", "expected"), ("a/b", "expected"), ("x" * 65, "expected")):
        with pytest.raises(BadInput, match=fault):
            asyncio.run(Registry(local.store, local.clock).create(name, "free", "a test"))


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
    stack = client.get("/admin/models/limited/defenses", headers=admin).json()
    assert [layer["type"] for layer in stack] == ["rate_limit", "quota", "granularity", "gaussian_noise"]
    for body, status, fault in (
        ({"name": "n", "plan": "no"}, 400, "there are paying"),
        ({"name": "n"}, 422, "plan"),
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
