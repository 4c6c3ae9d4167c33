"""The laboratory of the claims: data, victims, servers and accounts."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from attacker.extraction.extraction import Extraction
from attacker.journal import Recording
from attacker.membership.membership import Membership
from experiments import metrics
from experiments.parties import Parties, Server
from wire import Answer, Array, Oracle
from wire.http import Endpoint
from zoo import folder
from zoo.data import Dataset, Pool, load, roles
from zoo.data.idx import DEBIAN
from zoo.families import FAMILIES, Family
from zoo.model import Model
from zoo.network import Network
from zoo.recipe import Recipe, trained
from zoo.training import Training

PRICES = ("0.0001", "0.001")  # of a row and of a request, as units of the currency
PLANS = f"""
[plans.client]
price_per_row = "{PRICES[0]}"
price_per_request = "{PRICES[1]}"
[plans.owner]
skip = ["dawn"]
[plans.admin]
admin = true
"""


@dataclass(frozen=True)
class Asked:
    """The queries of an endpoint and its answers, in order.

    Attributes:
        x: Rows, ``(n, *input_shape)``.
        answer: The answer about them.
        model: The attack's surrogate.
        requests: Number of requests.
        money: Micro-cents that the theft cost.
    """

    x: Array
    answer: Answer
    model: Network
    requests: int = 0
    money: int = 0


@dataclass
class Lab:
    """Where a claim is tested.

    Attributes:
        parties: Runs the servers; its folder holds configurations, stores and logs.
        cache: Folder of what a later run finds again: data sets and trained models.
        data: The user's data folder, if any.
        seeds: Seeds of roles, victims and streams.
    """

    parties: Parties
    cache: Path
    data: Path | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    _loaded: dict[str, Dataset] = field(default_factory=dict, init=False, repr=False)

    def dataset(self, name: str) -> Dataset:
        """Loads a data set (see :func:`zoo.data.load`)."""
        if name not in self._loaded:
            self._loaded[name] = load(name, self.data, self.cache)
        return self._loaded[name]

    def roles(self, name: str, seed: int) -> dict[str, Pool]:
        """Draws the rows of each role (see :func:`zoo.data.roles.draw`)."""
        return roles.draw(self.dataset(name), seed)

    def train(
        self,
        pool: Pool,
        seed: int,
        *,
        family: str | Family = "cnn",
        training: Training | None = None,
        label: str = "",
    ) -> Network:
        """Trains a network on labelled rows, or loads it if it was trained before."""
        made = FAMILIES[family]() if isinstance(family, str) else family
        return trained(Recipe(made, training or Training(), seed), pool, self.cache, label=label).network()

    def victims(
        self, data: str, family: str | Family, training: Training | None = None
    ) -> tuple[dict[int, dict[str, Pool]], dict[int, Network]]:
        """Draws the roles of each seed, and trains its victim; both by seed."""
        held = {seed: self.roles(data, seed) for seed in self.seeds}
        made = {
            seed: self.train(pools["victim"], seed, family=family, training=training, label="victim")
            for seed, pools in held.items()
        }
        return held, made

    def about_all(
        self, victims: Mapping[int, Network], data: str, held: Mapping[int, Mapping[str, Pool]]
    ) -> dict[str, Any]:
        """Describes the victims of :meth:`victims`, for the results."""
        return {
            f"victim-{seed}": self.about(network, data, len(held[seed]["victim"]), held[seed]["evaluation"])
            for seed, network in victims.items()
        }

    def serve(
        self,
        name: str,
        victims: Mapping[str, tuple[Model, str]],
        leaves: Collection[str] = (),
        more: str = "",
    ) -> Server:
        """Starts a server.

        Args:
            name: The name of its folder and of its log.
            victims: By name, each with its defences in TOML, outermost first, such as
                ``{ type = "prada", delta = 0.95 }``; "" for a bare victim.
            leaves: Names of the victims that also tell leaves.
            more: Further lines of each victim's table.
        """
        base = self.parties.folder / name
        # Accounts and alarms are this run's own; what the server exports is found again in the lasting state.
        text = f'state = "{self.cache.parent}"\nstore = "sqlite:///{base}/range.sqlite"\n{PLANS}'
        for victim, (network, layers) in victims.items():
            sort = folder.fingerprint(network)[:16]
            if not (base / sort).exists():
                folder.save(network, base / sort)
            text += f'[[victims]]\nname = "{victim}"\nfolder = "{sort}"\ndefenses = [{layers}]\n'
            text += "leaves = true\n" * (victim in leaves)
            text += more
        config = base / "range.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(text)
        return self.parties.serve(name, config)

    def ask(
        self,
        server: Server,
        model: str,
        account: str,
        rows: Iterable[Array],
        *,
        plan: str = "client",
        label: str = "",
    ) -> Answer:
        """Sends batches of rows, a request each, under a new account; returns the answers about all rows."""
        key = server.account(account, plan)
        endpoint = Endpoint(server.url, model=model, key=key, client=server.client)
        batches = tqdm(rows, desc=label or account, unit="request", leave=False, dynamic_ncols=True)
        return Answer.join([endpoint(batch) for batch in batches])

    def attack(
        self,
        server: Server,
        model: str,
        account: str,
        attack: Extraction,
        pool: Pool,
        budget: int,
        seed: int,
        *,
        labelled: bool = False,
    ) -> Asked:
        """Runs an attack over HTTP under a new account, with its own seed; a pool's labels go only if so told."""
        key = server.account(account, "client")
        endpoint = Endpoint(server.url, model=model, key=key, client=server.client)
        recording = Recording(endpoint)
        bar = tqdm(total=budget, desc=account, unit="row", leave=False, dynamic_ncols=True)

        def shown(oracle: Oracle) -> None:
            bar.update(oracle.spent - bar.n)

        with bar:
            oracle = Oracle(recording, endpoint.card, budget, prices=endpoint.prices(), on_answer=shown)
            rng = np.random.default_rng([seed, 1])
            surrogate = attack.extract(oracle, pool if labelled else replace(pool, y=None), rng).network()
        asked, answer = np.concatenate(recording.asked), Answer.join(recording.answers)
        return Asked(asked, answer, surrogate, oracle.requests, oracle.money or 0)

    def oracle(self, server: Server, model: str, account: str) -> Oracle:
        """Returns an oracle under a new account, without a budget."""
        key = server.account(account, "client")
        endpoint = Endpoint(server.url, model=model, key=key, client=server.client)
        return Oracle(endpoint, endpoint.card)

    def infer(
        self,
        server: Server,
        model: str,
        account: str,
        attack: Membership,
        candidates: Pool,
        shadow: Pool,
        seed: int,
    ) -> Array:
        """Runs a membership attack over HTTP under a new account, with its own seed; returns its scores."""
        assert candidates.y is not None
        rng = np.random.default_rng([seed, 1])
        return attack.infer(self.oracle(server, model, account), candidates.x, candidates.y, shadow, rng)

    def about(self, network: Model, data: str, rows: int, evaluation: Pool) -> dict[str, Any]:
        """Describes a victim, for the results."""
        assert evaluation.y is not None
        labels = network.predict(evaluation.x).argmax(axis=1)
        return {
            "data": data,
            "source": self._source(data),
            "family": json.loads(json.dumps({"name": type(network.family).__name__, **vars(network.family)})),
            "trained_on": rows,
            "accuracy": metrics.agreement(labels, evaluation.y),
            "sha256": folder.fingerprint(network),
        }

    def _source(self, name: str) -> str:
        """Returns the source of a data set, without a path of this machine."""
        source = self.dataset(name).source
        plain = not Path(source).is_absolute() or Path(source) == DEBIAN
        return source if plain else "the data folder"
