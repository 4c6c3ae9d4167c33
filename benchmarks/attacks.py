"""Times Knockoff beside the Adversarial Robustness Toolbox (ART), at equal rows and by agreement.

Both steal the same victim with the same network, one thread and the same answers, which are looked up, so that
only the attacker's processor time counts. ART runs in an environment of its own.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from attacker.extraction.knockoff import Knockoff
from benchmarks.measure import ratios, spread
from benchmarks.serving import environments
from experiments import metrics
from experiments.header import header
from wire import Answer, Array, BadInput, Oracle
from zoo.data import Pool, load, roles
from zoo.families import FAMILIES
from zoo.recipe import Recipe, trained
from zoo.training import Training

SCRIPT = Path(__file__).parent / "rivals" / "art_knockoff.py"
ART = "adversarial-robustness-toolbox==1.20.1"
Strategy = Literal["random", "adaptive"]


@dataclass(frozen=True)
class Attacks:
    """Processor time and agreement of Knockoff, ours and ART's.

    Attributes:
        dataset: Data set of victim and pool.
        rows: Rows of a theft.
        epochs: Passes over them.
        fewer: Passes of a further run of each, which may reach the same agreement in less time.
        seeds: Number of seeds.
    """

    dataset: str = "fashion_mnist"
    rows: int = 1000
    epochs: int = 10
    fewer: int = 5
    seeds: int = 3

    def __post_init__(self) -> None:
        if min(self.rows, self.epochs, self.fewer, self.seeds) < 1:
            raise BadInput(f"{self}: expected at least 1 of each")

    def run(self, cache: Path, data: Path | None) -> dict[str, Any]:
        """Runs both; returns all figures, behind the header.

        Args:
            cache: Folder of ART's environment and of the victims.
            data: The user's data folder, if any.

        Raises:
            BadInput: ART is not installed there.
        """
        python = environments.python_of("art", wanted(), cache)
        if python is None:
            raise BadInput(f"ART is not installed in {cache}; run this with --install first")
        head, found = header(asdict(self), seeds=range(self.seeds)), dict[str, list[dict[str, float]]]()
        torch.set_num_threads(1)
        for seed in tqdm(range(self.seeds), desc="attacks", unit="seed"):
            held = roles.draw(load(self.dataset, data, cache), seed)
            victim = trained(Recipe(FAMILIES["cnn"](), Training(), seed), held["victim"], cache).network()
            pool, test = held["pool"].take(slice(2 * self.rows)), held["evaluation"].x
            probs, truth = victim.predict(pool.x), victim.predict(test).argmax(axis=1)
            place = cache / f"art-{seed}.npz"
            np.savez(place, x=pool.x, y=pool.y, probs=probs, x_test=test)  # type: ignore[arg-type]
            for name, seconds, labels in self._runs(python, place, pool, probs, test, seed):
                agreement = metrics.agreement(labels, truth).rate
                found.setdefault(name, []).append({"seconds": seconds, "agreement": agreement})
            place.unlink()
        return {**head, "art": ART, "runs": {name: joined(runs, found) for name, runs in found.items()}}

    def _runs(
        self, python: Path, place: Path, pool: Pool, probs: Array, test: Array, seed: int
    ) -> Iterator[tuple[str, float, Array]]:
        strategies: tuple[Strategy, ...] = ("random", "adaptive")
        for strategy in strategies:
            for epochs in (self.epochs, self.fewer):
                theirs = rival(python, place, strategy, self.rows, epochs, seed)
                yield f"ART, {strategy}, {epochs} epochs", theirs["seconds"], np.array(theirs["labels"])
                attack = Knockoff("cnn", epochs, lr=1e-3, schedule="constant", strategy=strategy)
                yield f"ours, {strategy}, {epochs} epochs", *self._ours(attack, pool, probs, test, seed)
            attack = Knockoff("cnn", self.fewer, strategy=strategy)
            yield f"ours, {strategy}, {self.fewer} epochs, one cycle", *self._ours(attack, pool, probs, test, seed)

    def _ours(self, attack: Knockoff, pool: Pool, probs: Array, test: Array, seed: int) -> tuple[float, Array]:
        known = {row.tobytes(): answer for row, answer in zip(pool.x, probs, strict=True)}

        def told(x: Array) -> Answer:
            answers = np.stack([known[row.tobytes()] for row in np.ascontiguousarray(x)])
            return Answer(answers.argmax(axis=1), answers)

        card = Recipe(FAMILIES["cnn"](), Training(0), 0).train(pool.take(slice(64))).card()
        oracle = Oracle(told, card, self.rows)
        begun = time.process_time()
        copy = attack.extract(oracle, pool, np.random.default_rng(seed))
        seconds = time.process_time() - begun
        assert oracle.spent == self.rows
        return seconds, copy.predict(test).argmax(axis=1)


def rival(python: Path, place: Path, strategy: Strategy, rows: int, epochs: int, seed: int) -> dict[str, Any]:
    """Runs ART's Knockoff once; returns the processor time and the labels.

    ART divides each reward by its standard deviation, which is 0 where the first two answers are equally sure, for
    instance beyond float32. The policy is then NaN, and the run ends with an error; it is repeated with another
    seed.

    Raises:
        BadInput: It failed five times.
    """
    out = place.with_suffix(".json")
    for attempt in range(5):
        words = [strategy, str(rows), str(epochs), str(seed + 1000 * attempt)]
        if not subprocess.run([str(python), str(SCRIPT), str(place), str(out), *words]).returncode:
            theirs: dict[str, Any] = json.loads(out.read_text())
            out.unlink()
            return theirs
    raise BadInput(f"ART's {strategy} Knockoff failed with five seeds; its messages are above")


def joined(runs: list[dict[str, float]], found: Mapping[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Joins the seeds of a run: seconds and agreement, median, least and greatest."""
    return {name: spread([run[name] for run in runs]) for name in ("seconds", "agreement")} | {
        f"of {other}": ratios([run["seconds"] for run in runs], [run["seconds"] for run in others])
        for other, others in found.items()
        if other.startswith("ART") and others is not runs
    }


def wanted() -> str:
    """Returns what ART's environment holds: the same torch as ours."""
    return "\n".join([f"torch=={version('torch')}", ART, "packaging"])  # which ART imports and does not require


def install(cache: Path) -> None:
    """Installs ART in an environment of its own, in a folder that outlasts a run.

    Raises:
        BadInput: pip failed.
    """
    index = "https://download.pytorch.org/whl/cpu"
    flags = ["--extra-index-url", index] if "+cpu" in version("torch") else []
    if environments.python_of("art", wanted(), cache) is None and not environments.made(
        "art", wanted(), cache, flags
    ):
        raise BadInput("ART was not installed; pip's messages are above")


def table(results: Mapping[str, Any]) -> str:
    """Formats results: a line for each run."""
    lines = ["| run | agreement | processor s | of ART's at equal epochs |", "|---|---|---|---|"]
    epochs = results["settings"]["epochs"]
    for name, run in results["runs"].items():
        strategy = name.split(", ")[1]
        of = run.get(f"of ART, {strategy}, {name.split(', ')[2]}")
        first = run.get(f"of ART, {strategy}, {epochs} epochs")
        share = "" if of is None else f"{of[0]:.2f} ({of[1]:.2f} to {of[2]:.2f})"
        if first is not None and first != of:
            share += f"; of its {epochs} epochs: {first[0]:.2f}"
        (seconds, *_), (agreement, low, high) = run["seconds"], run["agreement"]
        lines.append(
            f"| {name} | {100 * agreement:.1f} ({100 * low:.1f} to {100 * high:.1f}) | {seconds:.1f} | {share} |"
        )
    return "\n".join(lines)
