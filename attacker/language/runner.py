"""Runs one attack on one language model, and writes its results to a folder."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from attacker.language.exposure import Likelihoods
from attacker.language.output_layer import Output
from attacker.language.told import Told
from attacker.results import LOCK, TOLD, UNFINISHED, accounts, finish, plain, shown
from cli.meter import metered_tokens
from cli.money import MICRO
from wire import BudgetSpent
from wire.completions import CompletionOracle
from wire.openai import CompletionEndpoint
from zoo.language.model import LanguageModel


def conduct(
    name: str,
    attack: Any,
    endpoint: CompletionEndpoint,
    held: Sequence[Any],
    *,
    budget: int,
    money: float | None = None,
    patience: float,
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Runs an attack with a progress bar, and writes its results.

    Beside ``transfer.jsonl``, of all that was asked and told, and ``result.json`` stands what the attack found:
    ``output_layer.npz`` (``names``, ``singular``, ``matrix``, ``rank`` and ``width``, -1 if unknown),
    ``student/``, a language model, ``likelihoods.npz`` (``secrets``, ``others``), or ``guesses.json``. They
    replace those of an earlier run only when the attack has ended, as :func:`attacker.runner.conduct` does it.

    Args:
        name: The attack's name.
        attack: The attack: its verb is ``steal(oracle, *held, rng)``.
        endpoint: The connection to the victim.
        held: What the attacker holds, in the order of the verb's arguments.
        budget: Most tokens to spend, of prompts and completions together.
        money: Most money to spend, in units of the currency; None for no limit.
        patience: Longest wait for one request, in seconds.
        seed: Seed of all randomness.
        out: Folder of the results; it must exist and have no ``unfinished/``.

    Returns:
        The content of ``result.json``.

    Raises:
        BadInput: The attack cannot be run with these settings.
        WireError: Nothing of use was answered.
    """
    new = out / UNFINISHED
    new.mkdir()
    settings = {"attack": name, "settings": dataclasses.asdict(attack), "seed": seed}
    before, started, journal = accounts([endpoint]), time.perf_counter(), Told(new / TOLD)

    def opened(
        sleep: Callable[[float], object], on_answer: Callable[[CompletionOracle], None]
    ) -> CompletionOracle:
        return endpoint.oracle(
            budget,
            most_money=None if money is None else round(money * MICRO),
            patience=patience,
            sleep=sleep,
            recorded=journal.recorded,
            on_answer=on_answer,
        )

    with FileLock(new / LOCK, timeout=0):
        with closing(journal), metered_tokens(endpoint, opened, budget=budget, label=name) as oracle:
            found = attack.steal(oracle, *held, np.random.default_rng(seed))
            keep(found, new, **plain({**settings, "bill": bill(oracle)}))
            status, reason = _end(oracle)
            after = accounts([endpoint])
        if (new / TOLD).exists():
            (new / TOLD).replace(new / "transfer.jsonl")
        return finish(
            out,
            {
                **settings,
                "budget": budget,
                "budget_of_money": money,
                "endpoint": {"url": shown(endpoint.base), "model": endpoint.model, "chat": endpoint.chat},
                "status": status,
                "reason": reason,
                **bill(oracle),
                "account_before": before,
                "account_after": after,
                "seconds": round(time.perf_counter() - started, 3),
            },
        )


def keep(found: Any, folder: Path, **about: Any) -> None:
    """Writes what an attack found to files of a folder; a student, with more about it."""
    match found:
        case LanguageModel():
            found.save(folder / "student", **about)
        case Output():
            np.savez(
                folder / "output_layer.npz",
                names=np.array(found.names, np.str_),
                singular=found.singular,
                matrix=np.empty((len(found.names), 0)) if found.matrix is None else found.matrix,
                rank=-1 if found.rank is None else found.rank,
                width=-1 if found.width is None else found.width,
            )
        case Likelihoods():
            np.savez(folder / "likelihoods.npz", **found._asdict())
        case _:  # guesses after each beginning
            guesses = [[guess._asdict() for guess in each] for each in found]
            (folder / "guesses.json").write_text(json.dumps(guesses, indent=2) + "\n")


def bill(oracle: CompletionOracle) -> dict[str, Any]:
    """Returns what was answered, and the micro-cents spent if the prices are known."""
    return {
        "tokens": oracle.spent._asdict(),
        "completions": oracle.completions,
        "requests": oracle.requests,
        "money": oracle.money,
    }


def _end(oracle: CompletionOracle) -> tuple[str, str | None]:
    """Returns the status, ``done`` (also if the budget is spent) or ``stopped``, and a reason if there is one."""
    if oracle.ended is None:
        return "done", None
    spent = isinstance(oracle.ended, BudgetSpent) and not oracle.halted
    return ("done" if spent else "stopped"), str(oracle.ended)
