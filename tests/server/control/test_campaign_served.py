"""Campaign at a live API: accounts that share a payer are refused together."""

import numpy as np
from parts import SHAPE, local_server

from wire import Refused
from wire.http import Endpoint
from zoo.data.pool import Pool

TOML = """
state = "state"
origins = { proxies = ["127.0.0.1/32"] }
[plans.free]
[plans.admin]
admin = true
[[victims]]
name = "m"
folder = "net"
max_rows = 64
"""


def test_accounts_of_one_payer_are_refused_together(config, network):
    x = np.random.default_rng(0).random((300, *SHAPE), np.float32)
    Pool(x, network.predict(x).argmax(axis=1), tuple("abcde")).save(config.parent / "harmless.npz")
    file = config.parent / "harmless.npz"
    layer = (
        f'{{ type = "campaign", reference = "{file}", delta = 0.02, beat = 0, rows = 40, reaction = "refuse" }}'
    )
    config.write_text(TOML + f"defenses = [{layer}]\n")
    with local_server(config) as server:
        admin, clients = server.headers("admin", "root"), {}
        for name, payer in [(f"t{i}", "thief") for i in range(20)] + [(f"g{i}", "reseller") for i in range(20)]:
            new = {"name": name, "plan": "free", "payment": payer}
            key = server.client.post("/admin/accounts", json=new, headers=admin).json()["key"]
            clients[name] = Endpoint("http://local", model="m", key=key, client=server.client)
        rng = np.random.default_rng(1)
        refused = []
        for turn in range(2):
            for name, client in clients.items():
                server.clock.sleep(4000 + rng.exponential(400))  # no two begin to ask together
                odd = name.startswith("t") and (turn == 0 or name != "t19")
                try:
                    client(np.ones((2, *SHAPE), np.float32) if odd else rng.random((2, *SHAPE), np.float32))
                except Refused as refusal:
                    assert refusal.status == 403
                    refused.append((name, turn))
        alarms = server.client.get("/admin/alarms", headers=admin).json()
        # The window of 40 rows ends with the last thief's first request; then all are refused.
        assert refused == [("t19", 0), *((f"t{i}", 1) for i in range(20))]
        assert {alarm["account"] for alarm in alarms} == {f"t{i}" for i in range(20)}
        assert {alarm["detector"] for alarm in alarms} == {"campaign"}
