"""The folders of a demo: one for each party, with the files of its role and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.demo.sizes import Protocol
from experiments.parties import Parties, Server
from owner.selected_inference import SelectedInference
from owner.twin_test import TwinTest
from owner.twins.plan import PARTS
from wire import Array
from zoo import folder
from zoo.data import Pool, roles
from zoo.network import Network

FOLDERS = ("attacker", "owner", "judge", "victims", "suspects", "baselines", "logs")

# PRADA's delta is what harmless streams of 200 rows of Fashion-MNIST allow (0.89 to 0.91, docs/results.md). An
# alarm refuses the whole request in which it falls, so requests are small: some rows are answered before it.
POLICIES: dict[str, str] = {
    "open": "",
    "top3": """defenses = [
    { type = "rounding", digits = 2 },
    { type = "top_k", k = 3 },
    { type = "gaussian_noise", sigma = 0.05 },
]""",
    "labels": """defenses = [
    { type = "quota", rows = QUOTA, per = "day" },
    { type = "label_only" },
]""",
    "guarded": """max_rows = 32
defenses = [
    { type = "dawn", rate = 0.02 },
    { type = "prada", delta = 0.9, reaction = "refuse" },
]""",
}

NULL = "null"  # the name of an independent model, which membership attacks must not recognise rows of

PLANS = """
[plans.customer]
price_per_row = "0.0001"
[plans.owner]
skip = ["quota"]
[plans.admin]
admin = true
"""


@dataclass(frozen=True)
class Place:
    """A demo's folders, rows and sizes.

    Attributes:
        out: The folder of all that the demo leaves.
        state: The folder of what a later demo finds again, such as trained models.
        protocol: The sizes.
        held: The rows of each role.
        seed: Seed of roles, training and attacks.
    """

    out: Path
    state: Path
    protocol: Protocol
    held: Mapping[str, Pool]
    seed: int

    def clear(self) -> None:
        """Removes what an earlier demo left."""
        for name in FOLDERS:
            shutil.rmtree(self.out / name, ignore_errors=True)

    def party(self, name: str) -> Path:
        """Returns a party's folder, and makes it if it is not there."""
        path = self.out / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def hand_out(self) -> Array:
        """Gives each party the files of its role; returns which candidates are members, ``(n,)`` bool."""
        attacker, owner, held = self.party("attacker"), self.party("owner"), self.held
        pool = held["pool"]
        Pool(pool.x, None, pool.class_names).save(attacker / "pool.npz")  # a thief has rows, but not their labels
        held["shadow"].save(attacker / "shadow.npz")
        held["victim"].save(owner / "private.npz")
        for role in ("unseen", "reference"):
            held[role].save(owner / f"{role}.npz")
        others = held["evaluation"].take(slice(self.protocol.candidates))
        candidates, truth = roles.candidates(held["victim"], others, self.seed)
        candidates.save(attacker / "candidates.npz")
        return truth

    def policies(self) -> dict[str, str]:
        """Returns the victim's stack of defences under each policy, in the server's TOML."""
        return {name: text.replace("QUOTA", str(self.protocol.quota)) for name, text in POLICIES.items()}

    def deploy(self, victim: Network) -> None:
        """Gives the victim to its owner, and to its server."""
        for party in ("owner", "victims"):
            about = {"seed": self.victim_seed, "rows": len(self.held["victim"])}
            folder.save(victim, self.party(party) / "victim", **about)

    def serve_victim(self, parties: Parties) -> Server:
        """Serves the victim, once under each policy, and an independent model that has seen no candidate."""
        served = {name: ("victim", text) for name, text in self.policies().items()}
        return self._serve(parties, "victims", {**served, NULL: (NULL, "")})

    def serve_suspects(self, parties: Parties, names: list[str]) -> Server:
        """Serves the models that lie in the folder ``suspects``, each under its own name."""
        return self._serve(parties, "suspects", {name: (name, "") for name in names})

    @property
    def study(self) -> Path:
        """The owner's study of the victim, which a later demo with the same victim and tests goes on with."""
        card = folder.read_card(self.party("owner") / "victim")
        tests = [TwinTest().committed(), SelectedInference().committed()]
        parts = json.dumps([*PARTS, card.sha256, self.protocol.twins, tests])
        return self.state / "owner" / hashlib.sha256(parts.encode()).hexdigest()[:16]

    @property
    def victim_seed(self) -> int:
        """The victim's own seed, too large to be shared by chance.

        It follows from the demo's, so that a demo repeats itself; an owner draws his from secret randomness.
        """
        return int(np.random.default_rng([self.seed, 2]).integers(2**63))

    @property
    def attackers_seed(self) -> int:
        """The attackers' own seed; that of the roles would give away who holds which rows."""
        return int(np.random.SeedSequence([self.seed, 1]).generate_state(1)[0])

    def result(self, account: str) -> dict[str, Any]:
        """Returns the ``result.json`` of an attacker's run."""
        found: dict[str, Any] = json.loads((self.run_of(account) / "result.json").read_text())
        return found

    def run_of(self, account: str) -> Path:
        """Returns the folder of an attacker's run."""
        return self.out / "attacker" / "runs" / account

    def _serve(self, parties: Parties, name: str, models: Mapping[str, tuple[str, str]]) -> Server:
        victims = "".join(
            f'[[victims]]\nname = "{model}"\nfolder = "{where}"\n{stack}\n'
            for model, (where, stack) in models.items()
        )
        config = self.party(name) / "range.toml"
        # Accounts and bills are this demo's own; what the server exports is found again in the lasting state.
        store = f'state = "{self.state}"\nstore = "sqlite:///{config.parent}/range.sqlite"\n'
        config.write_text(f"{store}{PLANS}{victims}")
        return parties.serve(name, config)
