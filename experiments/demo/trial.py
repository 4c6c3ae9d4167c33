"""One run of all parties: serve, steal, spy, prove; what each left, measured."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from attacker import MEMBERSHIP
from experiments import metrics
from experiments.demo.sizes import Protocol
from experiments.processes import Job, Parties, Server
from owner.evidence import Evidence, accusations
from wire import Array
from zoo import folder
from zoo.data import Dataset, Pool, load, load_or_digits, roles
from zoo.exact_interval import exact_interval
from zoo.families import FAMILIES
from zoo.model import Model
from zoo.network import Network
from zoo.recipe import Recipe, trained
from zoo.training import Training

THIEVES = ("knockoff", "jbda")
POLICIES: dict[str, str] = {
    "open": "",
    "top3": """
defenses = [
    { type = "rounding", digits = 2 },
    { type = "top_k", k = 3 },
    { type = "gaussian_noise", sigma = 0.05 },
]""",
    "labels": """
defenses = [
    { type = "quota", rows = QUOTA, per = "day" },
    { type = "label_only" },
]""",
}

PLANS = """
[plans.attacker]
price_per_row = "0.0001"
[plans.owner]
skip = ["quota"]
[plans.admin]
admin = true
"""


FOLDERS = ("attacker", "owner", "victims", "suspects", "baselines", "logs")


@dataclass
class Trial:
    """A trial in the making.

    Attributes:
        protocol: Its sizes.
        out: Folder for everything that it leaves.
        state: Folder for what a later trial finds again: data sets, roles, trained models.
        data: The user's data folder, if any.
        dataset: Name of a data set; by default Fashion-MNIST, or the digits that a dependency carries.
        seed: Seed of roles, trainings and attacks.
    """

    protocol: Protocol
    out: Path
    state: Path
    data: Path | None = None
    dataset: str | None = None
    seed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # The parties run in folders of their own.
        self.out, self.state = self.out.resolve(), self.state.resolve()
        self.data = self.data and self.data.resolve()

    def run(self) -> dict[str, Any]:
        """Runs everything; returns, and writes to ``results.json``, what the report shows."""
        for name in FOLDERS:  # an earlier trial's
            shutil.rmtree(self.out / name, ignore_errors=True)
        self.out.mkdir(parents=True, exist_ok=True)
        with self._timed("data"):
            dataset, missed = self._dataset()
            held = roles.draw(dataset, self.seed)
        if missed:
            tqdm.write(missed, file=sys.stderr)
        self.protocol = self.protocol.fitted(held)
        truth = self._hand_out(held)
        with Parties(self.out / "logs") as parties:
            with self._timed("victim and independent models"):
                victim = self._train(held["victim"], self.seed, "victim")
                independents = [self._independent(held["control"], i) for i in range(self.protocol.independents)]
            victims = parties.serve("victims", self._victims_config())
            with self._timed("extraction"):
                extraction = self._extract(parties, victims)
            with self._timed("surrogates, measured"):
                surrogates = [self._measured(run, victim, held) for run in extraction]
                baselines = self._baselines(parties, victim, held)
            with self._timed("membership"):
                spied = self._spy(parties, victims, truth)
            with self._timed("ownership"):
                suspects = self._prove(parties, victims, independents, held)
            ledgers = victims.ledgers()
        for run in [*surrogates, *spied]:
            run["ledger"] = ledgers[run["account"]]
        results = {
            "date": datetime.date.today().isoformat(),
            "protocol": dataclasses.asdict(self.protocol),
            "seed": self.seed,
            "data": {
                "name": dataset.name,
                "source": dataset.source,
                "missed": missed,
                "rows": {role: len(pool) for role, pool in held.items()},
            },
            "machine": self._machine(victim),
            "victim": {
                "family": "cnn",
                "accuracy": exact_interval(*self._hits(victim, held["evaluation"])),
                "train_accuracy": exact_interval(*self._hits(victim, held["victim"])),
            },
            "policies": {
                name: text.replace("QUOTA", str(self.protocol.quota)).strip() for name, text in POLICIES.items()
            },
            "extraction": surrogates,
            "baselines": baselines,
            "membership": spied,
            "ownership": suspects,
            "seconds": self.seconds,
        }
        (self.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
        return results

    def _hand_out(self, held: dict[str, Pool]) -> Array:
        """Gives each party the files of its role, and keeps the truth of who is a member."""
        attacker, owner = self._party("attacker"), self._party("owner")
        pool, n = held["pool"], self.protocol.candidates
        Pool(pool.x, None, pool.class_names).save(attacker / "pool.npz")  # who steals has rows, not their labels
        held["shadow"].save(attacker / "shadow.npz")
        held["victim"].save(owner / "private.npz")
        held["unseen"].save(owner / "unseen.npz")
        candidates, truth = roles.candidates(held["victim"], held["evaluation"].take(slice(n)), self.seed)
        candidates.save(attacker / "candidates.npz")
        return truth

    def _party(self, name: str) -> Path:
        path = self.out / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _train(self, pool: Pool, seed: int, label: str) -> Network:
        recipe = Recipe(FAMILIES["cnn"](), Training(), seed)
        return trained(recipe, pool, self.state / "cache", label=label).network()

    def _independent(self, control: Pool, number: int) -> Network:
        """Trains a model on rows of the control role; those of different models overlap."""
        rng = np.random.default_rng([self.seed, number])
        rows = control.take(rng.permutation(len(control))[: self.protocol.independent_rows])
        network = self._train(rows, self.seed + 1 + number, f"independent {number}")
        folder.save(network, self.out / "suspects" / f"independent-{number}")
        return network

    def _dataset(self) -> tuple[Dataset, str | None]:
        cache = self.state / "cache"
        if self.dataset is None:
            return load_or_digits("fashion_mnist", self.data, cache)
        return load(self.dataset, self.data, cache), None

    def _victims_config(self) -> Path:
        data = "" if self.dataset is None else f"data = {json.dumps(self.dataset)}, "
        victims = "".join(
            f'[[victims]]\nname = "{name}"\nrecipe = {{ {data}family = "cnn", seed = {self.seed} }}'
            f"{text.replace('QUOTA', str(self.protocol.quota))}\n"
            for name, text in POLICIES.items()
        )
        # Accounts and bills are the trial's own; what was trained is found in the lasting state.
        head = [f'state = "{self.state}"', f'store = "sqlite:///{self.out}/victims/range.sqlite"']
        if self.data is not None:
            head.append(f'data = "{self.data}"')
        path = self._party("victims") / "range.toml"
        path.write_text("\n".join(head) + PLANS + victims)
        return path

    def _extract(self, parties: Parties, victims: Server) -> list[dict[str, Any]]:
        """Runs the extraction attacks at every policy and budget, each with an account of its own."""
        jobs = []
        for budget in self.protocol.budgets:
            for policy in POLICIES:
                for attack in THIEVES:
                    name = f"{attack}-{policy}-{budget}"
                    more = ["--pool", "pool.npz"]
                    if attack == "jbda":
                        more += ["--seeds", str(self.protocol.jbda_seeds)]
                    jobs.append(self._attack(victims, name, attack, policy, budget, more))
        parties.run(jobs, at_once=_cores(), label="extraction")
        return [self._result(job.name, policy=job.name.split("-")[1]) for job in jobs]

    def _attack(self, victims: Server, name: str, attack: str, policy: str, budget: int, more: list[str]) -> Job:
        arguments = [
            attack,
            "--model",
            policy,
            "--budget",
            str(budget),
            "--out",
            f"runs/{name}",
            "--patience",
            "20",
        ]
        return Job(
            name,
            ["attacker", *arguments, "--seed", str(self._attackers_seed), *more],
            self._party("attacker"),
            {
                "MLAAS_URL": victims.url,
                "MLAAS_KEY": victims.account(name, "attacker"),
                "MLAAS_STATE": str(self.state / "attacker"),
                "OMP_NUM_THREADS": "1",
            },
        )

    @property
    def _attackers_seed(self) -> int:
        """The attackers' own seed, since that of the roles would tell them the split."""
        return int(np.random.SeedSequence([self.seed, 1]).generate_state(1)[0])

    def _result(self, name: str, **more: Any) -> dict[str, Any]:
        result = json.loads((self.out / "attacker" / "runs" / name / "result.json").read_text())
        kept = ("attack", "settings", "budget", "status", "reason", "rows", "requests", "money", "seconds")
        return {"account": name, **more, **{entry: result[entry] for entry in kept}}

    def _measured(self, run: dict[str, Any], victim: Network, held: dict[str, Pool]) -> dict[str, Any]:
        surrogate = folder.load(self.out / "attacker" / "runs" / run["account"] / "surrogate")
        return {**run, **self._worth(surrogate, victim, held["evaluation"])}

    def _worth(self, surrogate: Model, victim: Model, evaluation: Pool) -> dict[str, Any]:
        """Measures a surrogate's accuracy, and its agreement with the bare victim, on rows nobody else has."""
        ours, theirs = (network.predict(evaluation.x).argmax(axis=1) for network in (surrogate, victim))
        assert evaluation.y is not None
        n = len(evaluation)
        return {
            "accuracy": exact_interval(int((ours == evaluation.y).sum()), n),
            "agreement": exact_interval(int((ours == theirs).sum()), n),
        }

    def _baselines(self, parties: Parties, victim: Network, held: dict[str, Pool]) -> list[dict[str, Any]]:
        """Trains Knockoff's surrogate on the true labels of the rows that Knockoff asked about."""
        where = {row.tobytes(): index for index, row in enumerate(held["pool"].x)}
        folders, jobs = [], []
        for budget in self.protocol.budgets:
            run = self.out / "attacker" / "runs" / f"knockoff-open-{budget}"
            with np.load(run / "transfer.npz", allow_pickle=False) as transfer:
                rows = held["pool"].take([where[row.tobytes()] for row in transfer["x"]])
            card = folder.read_card(run / "surrogate")
            assert card.training is not None
            training = dataclasses.asdict(card.training)
            flags = [
                part for name, value in training.items() for part in (f"--{name.replace('_', '-')}", str(value))
            ]
            folders.append(self._party("baselines") / str(len(rows)))
            rows.save(folders[-1] / "rows.npz")
            arguments = ["zoo", "train", "--rows", "rows.npz", "--family", card.family, *flags]
            arguments += ["--seed", str(self.seed)]
            job = Job(f"baseline-{budget}", [*arguments, "--out", "model"], folders[-1], {"OMP_NUM_THREADS": "1"})
            jobs.append(job)
        parties.run(jobs, at_once=_cores(), label="baselines")
        return [
            {"rows": int(path.name), **self._worth(folder.load(path / "model"), victim, held["evaluation"])}
            for path in folders
        ]

    def _spy(self, parties: Parties, victims: Server, truth: Array) -> list[dict[str, Any]]:
        """Runs every membership attack at every policy, each with an account of its own."""
        protocol = self.protocol
        jobs = []
        for policy in POLICIES:
            for attack in MEMBERSHIP:
                more = ["--candidates", "candidates.npz"]
                if attack == "shadow":
                    more += ["--shadow", "shadow.npz", "--shadows", str(protocol.shadows)]
                    more += ["--size", str(protocol.shadow_rows), "--epochs", str(protocol.shadow_epochs)]
                budget = 2 * protocol.candidates
                jobs.append(self._attack(victims, f"{attack}-{policy}", attack, policy, budget, more))
        # One shadow attack trains the shadow models; the others come later and find them.
        later = [job for job in jobs if job.name.startswith("shadow") and job.name != "shadow-open"]
        now = sorted([job for job in jobs if job not in later], key=lambda job: job.name != "shadow-open")
        parties.run(now, at_once=_cores(), label="membership")
        parties.run(later, at_once=_cores(), label="membership, the same shadow models again")
        return [self._spied(job.name, truth) for job in jobs]

    def _spied(self, name: str, truth: Array) -> dict[str, Any]:
        run = self._result(name, policy=name.split("-")[1])
        if run["status"] == "not applicable":
            return run
        with np.load(self.out / "attacker" / "runs" / name / "scores.npz", allow_pickle=False) as saved:
            scores = saved["scores"]
        return {**run, **metrics.membership(scores, truth)}

    def _prove(
        self, parties: Parties, victims: Server, independents: list[Network], held: dict[str, Pool]
    ) -> dict[str, Any]:
        """Serves every suspect at an endpoint of its own and has the owner test each."""
        largest = self.protocol.budgets[-1]
        stolen = {f"stolen-{policy}": f"knockoff-{policy}-{largest}" for policy in ("open", "labels")}
        for name, run in stolen.items():
            shutil.copytree(self.out / "attacker" / "runs" / run / "surrogate", self.out / "suspects" / name)
        names = [*stolen, *(f"independent-{number}" for number in range(len(independents)))]
        path = self.out / "suspects" / "range.toml"
        path.write_text(
            'state = "state"\n'
            + PLANS
            + "".join(f'[[victims]]\nname = "{name}"\nfolder = "{name}"\n' for name in names)
        )
        suspects = parties.serve("suspects", path)
        keys = victims.account("owner", "owner"), suspects.account("owner", "owner")
        targets = {"victim": (victims.url, "open", keys[0])} | {
            name: (suspects.url, name, keys[1]) for name in names
        }
        jobs = []
        for name, (url, model, key) in targets.items():
            arguments = ["owner", "dataset-inference", "--url", url, "--model", model, "--victim", victims.url]
            arguments += ["--victim-model", "open", "--private", "private.npz", "--unseen", "unseen.npz"]
            arguments += ["--out", f"{name}.json", "--features", "features.npz", "--seed", str(self.seed)]
            for option in ("fit_images", "test_images", "starts"):
                arguments += [f"--{option.replace('_', '-')}", str(getattr(self.protocol, option))]
            environment = {"MLAAS_KEY": key, "MLAAS_VICTIM_KEY": keys[0], "OMP_NUM_THREADS": "1"}
            jobs.append(Job(f"owner-{name}", arguments, self._party("owner"), environment))
        parties.run(jobs[:1], at_once=1, label="ownership: the victim itself")  # walks the victim for all of them
        parties.run(jobs[1:], at_once=_cores(), label="ownership: suspects")
        evidences = {name: Evidence.load(self.out / "owner" / f"{name}.json") for name in targets}
        accused = accusations([evidences[name] for name in targets if name.startswith("independent")])
        models = {name: folder.load(self.out / "suspects" / name) for name in names}
        return {
            "suspects": [
                {
                    "name": name,
                    "kind": name.split("-")[0],
                    "accuracy": exact_interval(*self._hits(models[name], held["evaluation"]))
                    if name in models
                    else None,
                    **dataclasses.asdict(evidence),
                }
                for name, evidence in evidences.items()
            ],
            "independents_accused": accused._asdict(),
            "ledgers": {"victims": victims.ledgers()["owner"], "suspects": suspects.ledgers()["owner"]},
        }

    def _hits(self, network: Model, pool: Pool) -> tuple[int, int]:
        assert pool.y is not None
        return int((network.predict(pool.x).argmax(axis=1) == pool.y).sum()), len(pool)

    def _machine(self, victim: Network) -> dict[str, Any]:
        packages = ("torch", "numpy", "scipy", "fastapi", "uvicorn", "httpx")
        return {
            "platform": platform.platform(),
            "cores": _cores(),
            "device": torch.cuda.get_device_name() if victim.device.type == "cuda" else "cpu",
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        }

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
