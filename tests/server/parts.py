"""What the tests of the server are made of."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import httpx

from defenses.store import open_store
from server.app import create_app, server_secret
from server.control.log import ControlLog
from server.deployment.models import load_all
from server.settings import read_settings
from wire.http import Endpoint
from wire.local import Clock, local_client
from zoo import folder

SHAPE = (1, 8, 8)
CONFIG = """
state = "state"
refusals_burst = 1_000_000  # the tests are refused often, and none shall wait
[plans.paying]
price_per_row = "0.0001"
price_per_request = "0.01"
[plans.free]
skip = ["rate_limit", "quota"]
[plans.admin]
admin = true

[[victims]]
name = "open"
folder = "net"
max_rows = 64

[[victims]]
name = "limited"
folder = "net"
max_rows = 64
defenses = [
    { type = "rate_limit", rows_per_second = 100, burst = 128 },
    { type = "quota", rows = 500, per = "day" },
    { type = "rounding", digits = 2 },
    { type = "top_k", k = 3 },
    { type = "gaussian_noise", sigma = 0.05 },
]

[[victims]]
name = "labels"
folder = "net"
max_rows = 64
defenses = [{ type = "label_only" }]
"""


def configured(path, network, cache):
    folder.save(network, path / "net")
    (path / "state").mkdir(mode=0o700)
    (path / "state" / "cache").symlink_to(cache)
    (path / "range.toml").write_text(CONFIG)
    return path / "range.toml"


class Local:
    """A server in this process, on a clock that is moved by hand."""

    def __init__(self, config, clock=None):
        self.settings = read_settings(config, state=config.parent / "state")
        self.clock = clock or Clock(1e9)
        self.store = open_store(self.settings.store_url())
        secret = asyncio.run(server_secret(self.store))
        self.app = create_app(self.settings, self.store, load_all(self.settings), secret, self.clock)
        self.client = None

    def account(self, name="someone", plan="paying"):
        return asyncio.run(ControlLog(self.store, self.clock).accounts.create(name, plan, "the tests"))

    def endpoint(self, model, plan="paying", name=None):
        key = self.account(name or f"{plan}-{model}", plan)
        return Endpoint("http://local", model=model, key=key, client=self.client, sleep=self.clock.sleep)

    def headers(self, plan="paying", name="someone"):
        return {"Authorization": f"Bearer {self.account(name, plan)}"}


@contextlib.contextmanager
def local_server(config, clock=None):
    """Runs a server in this process, with a client."""
    server = Local(config, clock=clock)
    with local_client(server.app) as server.client:
        yield server


def keys_of_new(config, **plans):
    """Creates accounts on plans in the store of a configuration, or at a URL, and returns their keys."""
    url = config if isinstance(config, str) else read_settings(config).store_url()

    async def create():
        store = open_store(url)
        try:
            accounts = ControlLog(store, time.time).accounts
            return [await accounts.create(name, plan, "the tests") for name, plan in plans.items()]
        finally:
            await store.close()

    return asyncio.run(create())


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def serving(*arguments, cwd):
    """Runs ``python -m server`` as a process of its own, and ends it without a drain."""
    port = free_port()
    command = [sys.executable, "-m", "server", "--port", str(port), "--device", "cpu", *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLAAS_")}
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 600  # a start takes some 12 seconds of a processor, which may be busy
        with httpx.Client() as client:  # one for each try would take a fifth of a core
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if client.get(f"{url}/v2/health/ready").status_code == 200:
                        break
                if process.poll() is not None or time.monotonic() > deadline:
                    process.kill()
                    raise RuntimeError(f"the server did not come up: {process.communicate(timeout=5)[0].decode()}")
                time.sleep(0.1)
        yield url, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(20)
        process.stdout.close()


def command(*arguments, cwd, **environment):
    """Runs a command of ours to its end."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MLAAS_")}
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd,
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
