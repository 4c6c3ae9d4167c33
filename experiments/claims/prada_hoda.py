"""B2: PRADA and HODA against attacks with natural images, and PRADA against attacks from many accounts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from tqdm import tqdm

from attacker.extraction.jbda import Jbda
from attacker.extraction.knockoff import Knockoff
from defenses.detectors.hoda import Hoda, hardness
from defenses.detectors.prada import Prada
from experiments.claims import streams
from experiments.claims.claim import Finding, Findings, over_seeds, share
from experiments.claims.prada_detection import Case, batches, layer
from experiments.lab import Lab
from experiments.parties import Server
from wire import Array, Labels
from zoo.data import Pool

OWN, SYNTHETIC, HARMLESS = "Knockoff, the victim's own distribution", "JbDA", "harmless, held out"

PUBLISHED = {  # HODA's table 3 for a CIFAR-10 victim: detector, rows of a sequence, attack (Knockoff: "CIFARX")
    ("PRADA", 100, SYNTHETIC): "0.0%",
    ("PRADA", 500, SYNTHETIC): "96.7%",
    ("PRADA", 100, "Knockoff"): "0.0%",
    ("PRADA", 500, "Knockoff"): "4.4%",
    ("HODA", 50, SYNTHETIC): "100.0%",
    ("HODA", 100, SYNTHETIC): "100.0%",
    ("HODA", 50, "Knockoff"): "99.9%",
    ("HODA", 100, "Knockoff"): "100.0%",
}

Stream = tuple[Array, Labels]


@dataclass(frozen=True)
class B2:
    """PRADA and HODA against Knockoff Nets with natural images, and PRADA against an attack split over accounts.

    Attributes:
        data: Data sets of the victims.
        family: Family of the victims.
        natural: Data sets whose images Knockoff queries, converted to grey and to the victim's size; the victim's
            own is left out.
        deltas: Thresholds of PRADA.
        budget: Rows of Knockoff.
        jbda: Rows of JbDA.
        lengths: Rows of the sequences that are classified.
        harmless: Most harmless rows to draw sequences from.
        sequences: Sequences of each kind and seed; as many choose delta, and as many others are held out.
        accounts: Numbers of accounts over which an attack is split.
        hoda: Rows of HODA's window at the server.
    """

    ID: ClassVar[str] = "B2"
    SAYS: ClassVar[str] = (
        "PRADA misses attacks with natural images (Knockoff Nets: 4.4 % of sequences of 500 rows detected), which "
        "HODA detects, and an attacker with many accounts"
    )
    SOURCE: ClassVar[str] = "Sadeghzadeh et al., HODA, table 3; Atli et al., EDSMLS 2020, authors' slides"

    data: tuple[str, ...] = ("mnist", "fashion_mnist")
    family: str = "cnn"
    natural: tuple[str, ...] = ("cifar10", "mnist", "fashion_mnist")
    deltas: tuple[float, ...] = (0.95, 0.96)
    budget: int = 3000
    jbda: int = 1600
    lengths: tuple[int, ...] = (50, 100, 500)
    harmless: int = 12_000
    sequences: int = 200
    accounts: tuple[int, ...] = (1, 5, 25, 125)
    hoda: int = 100

    def run(self, lab: Lab) -> Findings:
        """Attacks over HTTP, then tries sequences of what was asked: see :class:`Claim`."""
        cases = [Case.of(lab, data, seed, self.family) for data in self.data for seed in lab.seeds]
        server = lab.serve(
            "prada",
            {
                self._model(case, delta): (case.network, layer(delta, {}))
                for case in cases
                for delta in self.deltas
            },
        )
        record = Record()
        for case in tqdm(cases, desc=self.ID, unit="victim", dynamic_ncols=True):
            asked = record.asked[case.name] = dict(self._asked(lab, server, case))
            for attack in (SYNTHETIC, next(iter(asked))):
                for k in self.accounts:
                    self._split(lab, server, case, attack, k, asked[attack])
            self._sequences(case, asked, record)
        record.alarms = {alarm["account"]: alarm["row"] for alarm in server.alarms()}
        record.hoda = self._watched(lab, cases, record)
        rows = [row for data in self.data for row in self._found(lab, data, record)]
        return Findings(
            tuple(rows),
            {attack: f"up to {self._budget(attack):,} rows, over HTTP" for attack in record.attacks()}
            | {"harmless": "rows that did not train the victim and are not its thief's, in random order"},
            {case.name: case.about(lab) for case in cases},
            (
                "Attacks ran over HTTP, and alarms were read from /admin/alarms. Sequences are drawn from the "
                "queries (runs of JbDA, random rows of Knockoff) and from harmless rows; the same detectors "
                "classify each in process once, after its last row, PRADA without waiting for 100 distances. "
                f"Delta is the greatest, of HODA the least, that accuses none of {self.sequences} harmless "
                "sequences a seed; these and the held-out ones are from two halves of the harmless rows. "
                "Sequences share rows, so intervals are too narrow.",
                "Published rates are of a CIFAR-10 victim and other natural images, 10,000 sequences each. Images "
                "are made grey and as large as the victim's; CIFAR-10, where it comes as images, is a copy that "
                "was re-encoded as JPEG at quality 75.",
                "The split attacks send the rows of the attack of one account: row i from account i mod k.",
            ),
            {"deltas": record.deltas},
        )

    def _model(self, case: Case, delta: float) -> str:
        return f"{case.name}-{1000 * delta:.0f}"

    def _budget(self, attack: str) -> int:
        return self.jbda if attack == SYNTHETIC else self.budget

    def _asked(self, lab: Lab, server: Server, case: Case) -> Iterator[tuple[str, Stream]]:
        """Runs each attack on one model, and sends the same rows to the others; the natural ones first."""
        own = case.held["pool"]
        pools = {
            f"Knockoff, {name} images": Pool(streams.grey(self._some(lab, name, case.seed), own.input_shape))
            for name in self.natural
            if name != case.data
        }
        for attack, pool in {**pools, OWN: own, SYNTHETIC: own}.items():
            first, *others = (self._model(case, delta) for delta in self.deltas)
            thief = Jbda(seeds=100) if attack == SYNTHETIC else Knockoff(epochs=1)
            asked = lab.attack(server, first, account(attack, first), thief, pool, self._budget(attack), case.seed)
            for model in others:
                lab.ask(server, model, account(attack, model), batches(asked.x))
            yield attack, (asked.x, asked.answer.labels)

    def _some(self, lab: Lab, name: str, seed: int) -> Array:
        pool = lab.dataset(name).pool
        some: Array = pool.x[np.random.default_rng([seed, 3]).permutation(len(pool))[: self.budget]]
        return some

    def _split(self, lab: Lab, server: Server, case: Case, attack: str, k: int, asked: Stream) -> None:
        model = self._model(case, self.deltas[0])
        for i in range(k):
            lab.ask(server, model, account(attack, model, k, i), batches(asked[0][i::k]))

    def _sequences(self, case: Case, asked: dict[str, Stream], record: Record) -> None:
        """Draws sequences, calibrates both detectors on harmless ones, and counts the flagged ones."""
        rng = np.random.default_rng([case.seed, 4])
        x = np.concatenate([case.held[role].x for role in ("unseen", "shadow", "control", "evaluation")])
        x = x[rng.permutation(len(x))[: self.harmless]]
        rows: dict[str, Stream] = {HARMLESS: (x, case.labels(x)), **asked}
        earlier = case.network.earlier()
        hard = {
            name: (hardness(earlier.predict(x), labels)[:, None], labels) for name, (x, labels) in rows.items()
        }
        halves = np.array_split(rng.permutation(len(x)), 2)
        for n in self.lengths:
            chosen, held_out = ([rng.permutation(half)[:n] for _ in range(self.sequences)] for half in halves)
            drawn = {name: self._drawn(rng, name, len(labels), n) for name, (_, labels) in asked.items()}
            self._count(case, "PRADA", Prada(0.0, interval=n, enough=2), rows, chosen, held_out, drawn, record)
            self._count(case, "HODA", Hoda(**Hoda.uncalibrated, rows=n), hard, chosen, held_out, drawn, record)

    def _count(
        self,
        case: Case,
        kind: str,
        blank: Any,
        seen: dict[str, Stream],
        chosen: list[Array],
        held_out: list[Array],
        drawn: dict[str, list[Array]],
        record: Record,
    ) -> None:
        """Calibrates a detector on harmless sequences; counts which others, and which of attacks, it flags."""
        n = len(chosen[0])
        cut = {
            name: [(seen[name][0][at], seen[name][1][at]) for at in of]
            for name, of in {HARMLESS: held_out, **drawn}.items()
        }
        harmless, labels = seen[HARMLESS]
        detector, found = blank.calibrated([(harmless[at], labels[at]) for at in chosen], cut[HARMLESS], 0.0)
        record.deltas[f"{case.name}, {kind}, {n} rows"] = found.delta
        if kind == "HODA" and n == self.hoda:
            record.detectors[case.name] = detector
        for name in (HARMLESS, *drawn):
            alarms = [detector.observe(detector.begin(), *one).alarm for one in cut[name]]
            record.hits[case.name, kind, n, name] = (sum(alarm is not None for alarm in alarms), len(alarms))

    def _drawn(self, rng: np.random.Generator, attack: str, rows: int, n: int) -> list[Array]:
        if attack == SYNTHETIC:
            return [np.arange(start, start + n) for start in rng.integers(0, rows - n + 1, self.sequences)]
        return [rng.permutation(rows)[:n] for _ in range(self.sequences)]

    def _watched(self, lab: Lab, cases: list[Case], record: Record) -> dict[str, int]:
        """Sends the attacks to victims monitored by HODA; returns the alarms."""
        victims = {}
        for case in cases:
            found = record.detectors[case.name]
            table = (
                f'{{ type = "hoda", rows = {self.hoda}, delta = {found.delta}, benign = {list(found.benign)} }}'
            )
            victims[case.name] = (case.network, table)
        server = lab.serve("hoda", victims)
        for case in tqdm(cases, desc=f"{self.ID}, HODA", unit="victim", dynamic_ncols=True):
            for attack, (x, _) in record.asked[case.name].items():
                lab.ask(server, case.name, account(attack, case.name), batches(x))
        return {alarm["account"]: alarm["row"] for alarm in server.alarms()}

    def _found(self, lab: Lab, data: str, record: Record) -> Iterator[Finding]:
        cases = {seed: f"{data}-{seed}" for seed in lab.seeds}
        attacks = list(record.asked[cases[lab.seeds[0]]])
        for delta in self.deltas:
            for attack in attacks:
                names = {seed: account(attack, f"{case}-{1000 * delta:.0f}") for seed, case in cases.items()}
                yield over_seeds(
                    f"{attack}: rows until the alarm",
                    f"{data}, PRADA, the paper's settings, delta {delta:g}",
                    "none",
                    {seed: record.alarms.get(name) for seed, name in names.items()},
                    baseline="a cap of 1,000 rows: 1,001 rows",
                )
        for attack in attacks:
            yield over_seeds(
                f"{attack}: rows until the alarm",
                f"{data}, HODA, windows of {self.hoda} rows, delta from harmless rows",
                "none",
                {seed: record.hoda.get(account(attack, case)) for seed, case in cases.items()},
                baseline="a cap of 1,000 rows: 1,001 rows",
            )
        yield from self._rates(lab, data, record, attacks)
        for attack in (SYNTHETIC, attacks[0]):
            for k in self.accounts:
                names_of = [
                    account(attack, f"{case}-{1000 * self.deltas[0]:.0f}", k, i)
                    for case in cases.values()
                    for i in range(k)
                ]
                yield share(
                    f"{attack}, {self._budget(attack):,} rows: accounts accused of {k}",
                    f"{data}, PRADA, the paper's settings, delta {self.deltas[0]:g}, rows split over k accounts",
                    "none",
                    sum(name in record.alarms for name in names_of),
                    len(names_of),
                    seeds=lab.seeds,
                    baseline=f"a cap of 1,000 rows an account: {float(self._budget(attack) > 1000 * k):.1%}",
                )

    def _rates(self, lab: Lab, data: str, record: Record, attacks: list[str]) -> Iterator[Finding]:
        for kind in ("PRADA", "HODA"):
            for n in self.lengths:
                for attack in (HARMLESS, *attacks):
                    counts = [record.hits[f"{data}-{seed}", kind, n, attack] for seed in lab.seeds]
                    yield share(
                        f"{attack}: sequences accused",
                        f"{data}, {kind}, sequences of {n} rows, delta from harmless rows",
                        "none" if attack == OWN else PUBLISHED.get((kind, n, attack.partition(",")[0]), "none"),
                        sum(hits for hits, _ in counts),
                        sum(trials for _, trials in counts),
                        seeds=lab.seeds,
                        baseline="accusing nobody: 0.0%",
                    )


@dataclass
class Record:
    """The observations.

    Attributes:
        asked: Rows and labels of each attack, by victim.
        hits: Numbers of flagged and of all sequences, by victim, detector, rows and attack.
        deltas: The calibrated thresholds.
        detectors: The calibrated HODA of each victim.
        alarms: PRADA's alarms at the server: account to row.
        hoda: HODA's alarms, likewise.
    """

    asked: dict[str, dict[str, Stream]] = field(default_factory=dict)
    hits: dict[tuple[str, str, int, str], tuple[int, int]] = field(default_factory=dict)
    deltas: dict[str, float] = field(default_factory=dict)
    detectors: dict[str, Any] = field(default_factory=dict)
    alarms: dict[str, int] = field(default_factory=dict)
    hoda: dict[str, int] = field(default_factory=dict)

    def attacks(self) -> list[str]:
        """Returns the names of all attacks."""
        return list(dict.fromkeys(name for of in self.asked.values() for name in of))


def account(attack: str, model: str, *of: int) -> str:
    """Names the account, or one of the accounts, under which an attack queries a model."""
    short = attack.removeprefix("Knockoff, ").removesuffix(" images").replace(" ", "-").replace("'", "")
    return "-".join([short, model, *map(str, of)])
