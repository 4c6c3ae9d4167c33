"""A served victim in this process, for notebooks: ``with serve(victim, defenses=[...]) as api``.

Requests take the way that they take over a network (:mod:`wire.local`), so answers, refusals, alarms and bills are
the same.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import httpx
import torch
from anyio.from_thread import start_blocking_portal
from tqdm import tqdm

from defenses import DEFENSES, DETECTORS, GENERATION, Monitored
from defenses.reactions.alarm import StandingAlarm
from defenses.store import open_store
from server.app import create_app, server_secret
from server.control.accounts import Account
from server.control.log import ControlLog
from server.deployment.models import load_all
from server.http.application import Application
from server.settings import DEFAULT, read_settings
from wire import BadInput, Oracle
from wire.http import Endpoint
from wire.local import local_client
from wire.patient import Patient
from zoo import folder
from zoo.model import Model

ADMIN = Account("admin", "admin")
_URL = "http://local"

T = TypeVar("T")


class Api:
    """A served victim.

    Attributes:
        model: Its name.
        client: A client for any other request; its paths are those of the documentation.
    """

    def __init__(self, model: str, client: httpx.Client, admin_key: str, progress: bool) -> None:
        """Takes a client of the server, and an administrator's key."""
        self.model, self.client = model, client
        self._keys, self._progress = {ADMIN.name: admin_key}, progress

    def oracle(
        self,
        budget: int | None = None,
        *,
        plan: str = "attacker",
        account: str | None = None,
        patience: float = 300.0,
        progress: bool | None = None,
    ) -> Oracle:
        """Returns the victim as an account reaches it.

        Args:
            budget: Most rows to ask about; None for no limit of one's own.
            plan: The account's plan, if it is new.
            account: Name of the account, which is created at first use; by default that of the plan.
            patience: Longest wait for one request, in seconds.
            progress: Whether to show a bar; by default as given to :func:`serve`.

        Raises:
            BadInput: There is no such plan.
        """
        key = self._key(account or plan, plan)
        endpoint = Endpoint(_URL, model=self.model, key=key, client=self.client)
        bar = None
        if self._progress if progress is None else progress:
            bar = tqdm(total=budget, desc=self.model, unit="row", dynamic_ncols=True, mininterval=0.5)

        def answered(oracle: Oracle) -> None:
            if bar is not None:
                bar.update(oracle.spent - bar.n)
                if oracle.left == 0:
                    bar.close()

        transport = Patient(endpoint, patience)
        return Oracle(transport, endpoint.card, budget, prices=endpoint.prices(), on_answer=answered)

    def account(self, name: str = "attacker") -> dict[str, Any]:
        """Returns an account's statement: rows, requests and money (in micro-cents), and what its limits leave."""
        if name not in self._keys:
            raise BadInput(f"no account {name!r} was used; there are {', '.join(self._keys)}")
        statement: dict[str, Any] = self._get("/v1/account", self._keys[name])
        return statement

    def alarms(self) -> list[StandingAlarm]:
        """Lists the alarms that detectors raised, oldest first."""
        return [StandingAlarm.of(alarm) for alarm in self._get("/admin/alarms", self._keys[ADMIN.name])]

    def _key(self, name: str, plan: str) -> str:
        if name not in self._keys:
            headers = _bearer(self._keys[ADMIN.name])
            reply = self.client.post(f"/admin/accounts/{name}/keys", headers=headers)
            if reply.status_code == 404:
                new = {"name": name, "plan": plan}
                reply = self.client.post("/admin/accounts", json=new, headers=headers)
            if reply.status_code != 201:
                raise BadInput(reply.json()["detail"])
            self._keys[name] = reply.json()["key"]
        return self._keys[name]

    def _get(self, path: str, key: str) -> Any:
        reply = self.client.get(path, headers=_bearer(key))
        reply.raise_for_status()
        return reply.json()


@contextmanager
def serve(
    victim: Model | Path | str,
    *,
    defenses: Sequence[Any] = (),
    plans: Mapping[str, Mapping[str, Any]] | None = None,
    name: str = "victim",
    max_rows: int = 1024,
    state: Path | None = None,
    clock: Callable[[], float] = time.time,
    progress: bool = True,
) -> Iterator[Api]:
    """Serves a victim in this process while the block runs.

    Args:
        victim: A model, or the folder of a saved one.
        defenses: Its defences, outermost first: objects, such as ``Rounding(2)`` or ``Prada()``, or tables as in
            the server's TOML.
        plans: The plans as in the server's TOML; by default ``attacker`` and ``owner`` as in a server without
            settings. There is always a plan ``admin``.
        name: The model's name.
        max_rows: Most rows in one request.
        state: Folder of accounts, counters and logs; by default one that is removed at the end.
        clock: Returns the time, in seconds since the epoch.
        progress: Whether oracles show a bar.

    Raises:
        BadInput: The victim cannot be loaded, or the defences contradict themselves.
    """
    with TemporaryDirectory(prefix="mlaas-range-") as temporary:
        if not isinstance(victim, Path | str):
            folder.save(victim, Path(temporary) / "victim")
            victim = Path(temporary) / "victim"
        settings = read_settings(
            None,
            state=state or Path(temporary) / "state",
            threads=torch.get_num_threads(),
            plans={**(DEFAULT["plans"] if plans is None else plans), ADMIN.plan: {"admin": True}},
            victims=[
                {
                    "name": name,
                    "folder": Path(victim),
                    "max_rows": max_rows,
                    "defenses": [table_of(defense) for defense in defenses],
                }
            ],
        )
        store = open_store(settings.store_url())
        served = load_all(settings)

        async def prepared() -> tuple[Application, str]:
            application = create_app(settings, store, served, await server_secret(store), clock)
            await application.service.begin()
            control = ControlLog(store, clock)
            await control.catch_up()
            if ADMIN in control.accounts.all():
                return application, await control.accounts.add_key(ADMIN.name, __name__)
            return application, await control.accounts.create(ADMIN.name, ADMIN.plan, __name__)

        application, key = _run(prepared)
        try:
            with local_client(application, _URL) as client:
                yield Api(name, client, key, progress)
        finally:
            _run(store.close)


def table_of(defense: Any) -> dict[str, Any]:
    """Returns a defence as a table of the server's TOML, which describes it completely.

    Raises:
        BadInput: It is not a registered defence.
    """
    if isinstance(defense, Mapping):
        return dict(defense)
    if isinstance(defense, Monitored):
        return {**table_of(defense.detector), **_fields(defense.consequence)}
    registered = {**DEFENSES, **DETECTORS, **GENERATION}
    for kind, cls in registered.items():
        if type(defense) is cls:
            return {"type": kind, **_fields(defense)}
    raise BadInput(f"{defense!r} is not a registered defence; there are {', '.join(registered)}")


def _fields(defense: Any) -> dict[str, Any]:
    given = {field.name: getattr(defense, field.name) for field in fields(defense)}
    return {name: value for name, value in given.items() if value is not None}


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _run(function: Callable[[], Awaitable[T]]) -> T:
    """Runs a coroutine function in a loop of its own, beside one that a notebook may be running."""
    with start_blocking_portal() as portal:
        return portal.call(function)
