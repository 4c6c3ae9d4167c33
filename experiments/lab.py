"""What the protocols of claims share: data, victims, servers and accounts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from attacker.extraction.extraction import Extraction
from attacker.transports import Recording
from experiments.parties import Parties, Server
from wire import Answer, Array, Oracle
from wire.http import Endpoint
from zoo import folder
from zoo.data import Dataset, Pool, load, roles
from zoo.data.idx import DEBIAN
from zoo.exact_interval import exact_interval
from zoo.families import FAMILIES, Family
from zoo.network import Network
from zoo.recipe import Recipe, trained
from zoo.training import Training

PLANS = """
[plans.client]
[plans.owner]
skip = ["dawn"]
[plans.admin]
admin = true
"""


@dataclass(frozen=True)
class Asked:
    """What an endpoint was asked and answered, in order.

    Attributes:
        x: Rows, ``(n, *input_shape)``.
        answer: The answer about them.
        sizes: How many rows each request had.
        model: What the asking left, None if it was a stream of rows and no attack.
    """

    x: Array
    answer: Answer
    sizes: tuple[int, ...]
    model: Network | None = None


@dataclass
class Lab:
    """Where a claim is tried.

    Attributes:
        parties: Runs the servers; its folder holds configurations, stores and logs.
        cache: Folder of what a later run finds again: data sets and trained models.
        data: The user's data folder, if any.
        seeds: Seeds; each draws its roles, trains its victims and makes its streams.
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
        """Draws who holds which rows of a data set (see :func:`zoo.data.roles.draw`)."""
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
        """Trains a network on labelled rows, or finds it trained."""
        made = FAMILIES[family]() if isinstance(family, str) else family
        return trained(Recipe(made, training or Training(), seed), pool, self.cache, label=label).network()

    def serve(self, name: str, victims: Mapping[str, tuple[Network, str]]) -> Server:
        """Starts a server.

        Args:
            name: What its folder and its log are called.
            victims: By name, each with its layers as TOML has them, such as ``{ type = "prada", delta = 0.95 }``,
                outermost first; or "" for a bare victim.
        """
        base = self.parties.folder / name
        # Accounts and alarms are this run's own; what was exported is found in the lasting state.
        text = f'state = "{self.cache.parent}"\nstore = "sqlite:///{base}/range.sqlite"\n{PLANS}'
        for victim, (network, layers) in victims.items():
            sort = folder.fingerprint(network)[:16]
            if not (base / sort).exists():
                folder.save(network, base / sort)
            text += f'[[victims]]\nname = "{victim}"\nfolder = "{sort}"\ndefenses = [{layers}]\n'
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
        """Sends batches of rows, each as one request, under a new account; returns the answers about all."""
        key = server.account(account, plan)
        endpoint = Endpoint(server.url, model=model, key=key, client=server.client)
        batches = tqdm(rows, desc=label or account, unit="request", leave=False, dynamic_ncols=True)
        return Answer.join([endpoint(batch) for batch in batches])

    def attack(
        self, server: Server, model: str, account: str, attack: Extraction, pool: Pool, budget: int, seed: int
    ) -> Asked:
        """Runs an attack over HTTP under a new account, with the attacker's own seed; its labels go untold."""
        key = server.account(account, "client")
        endpoint = Endpoint(server.url, model=model, key=key, client=server.client)
        recording = Recording(endpoint)
        bar = tqdm(total=budget, desc=account, unit="row", leave=False, dynamic_ncols=True)

        def shown(oracle: Oracle) -> None:
            bar.update(oracle.spent - bar.n)

        with bar:
            oracle = Oracle(recording, endpoint.card, budget, on_answer=shown)
            rng = np.random.default_rng([seed, 1])
            surrogate = attack.extract(oracle, Pool(pool.x, None, pool.class_names), rng)
        sizes = tuple(len(x) for x in recording.asked)
        return Asked(np.concatenate(recording.asked), Answer.join(recording.answers), sizes, surrogate)

    def about(self, network: Network, data: str, rows: int, evaluation: Pool) -> dict[str, Any]:
        """Says what a victim is, for the results."""
        assert evaluation.y is not None
        hits = int((network.predict(evaluation.x).argmax(axis=1) == evaluation.y).sum())
        return {
            "data": data,
            "source": self._source(data),
            "family": json.loads(json.dumps({"name": type(network.family).__name__, **vars(network.family)})),
            "trained_on": rows,
            "accuracy": exact_interval(hits, len(evaluation)),
            "sha256": folder.fingerprint(network),
        }

    def _source(self, name: str) -> str:
        """Says where a data set was found, without a path of this machine."""
        source = self.dataset(name).source
        plain = not Path(source).is_absolute() or Path(source) == DEBIAN
        return source if plain else "the data folder"
