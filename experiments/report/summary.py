"""The outcome of a demo: six lines, the bill, and whether both sides of the wire count alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from experiments.report.formatting import count, money, percent
from experiments.report.verdicts import false_accusations, tests_of

Run = Mapping[str, Any]

BASELINE = "gap"  # the membership attack that the others are compared with


def summary(results: Run) -> list[tuple[str, str]]:
    """Returns six lines, each with its heading; five without a judgement."""
    applied = [run for run in results["extraction"] if not not_applicable(run)]
    ranked = sorted(applied, key=agreement, reverse=True)
    thefts = [run for n, run in enumerate(ranked) if run["policy"] not in {own["policy"] for own in ranked[:n]}]
    return [
        ("Extraction", _stolen(thefts[0], results["victim"], results["baselines"])),
        ("Defences", _elsewhere(thefts[1:])),
        ("Membership", _membership([run for run in results["membership"] if not not_applicable(run)])),
        ("Ownership", _ownership(results)),
        *judged(results["ownership"].get("judgement")),
        ("Cost", _billed(results)),
    ]


def not_applicable(run: Run) -> bool:
    """Returns whether an attack could not be run against this victim, so that it left nothing to measure."""
    return bool(run["status"] == "not applicable")


def agreement(run: Run) -> float:
    """Returns the rate at which a surrogate agrees with the victim."""
    return float(run["agreement"][0])


def auc(run: Run) -> float:
    """Returns the area under the ROC of a membership attack."""
    return float(run["auc"])


def differences(run: Run) -> list[str]:
    """Lists where the server's ledger and the client's own count differ; money only if the client knows it."""
    ledger = run["ledger"]
    pairs = [("rows", run["rows"], ledger["rows"]), ("requests", run["requests"], ledger["requests"])]
    if run["money"] is not None:
        pairs.append(("micro-cents", run["money"], ledger["micro_cents"]))
    return [f"{what}: client {ours:,}, server {theirs:,}" for what, ours, theirs in pairs if ours != theirs]


class Cost(NamedTuple):
    """The cost of all runs of a party; the money is None where it is not known."""

    party: str
    runs: int
    rows: int
    requests: int
    money: int | None


def costs(results: Run) -> list[Cost]:
    """Returns what each party spent."""
    ledgers = results["ownership"]["ledgers"].values()
    rows, requests, spent = (
        sum(ledger[entry] for ledger in ledgers) for entry in ("rows", "requests", "micro_cents")
    )
    return [
        _cost("attacker, extraction", results["extraction"]),
        _cost("attacker, membership", results["membership"]),
        Cost("owner", sum(map(len, tests_of(results).values())), rows, requests, spent),
    ]


def _cost(party: str, runs: Sequence[Run]) -> Cost:
    spent = [run["money"] for run in runs]
    return Cost(
        party,
        len(runs),
        sum(run["rows"] for run in runs),
        sum(run["requests"] for run in runs),
        None if None in spent else sum(spent),
    )


def _stolen(run: Run, victim: Run, baselines: Sequence[Run]) -> str:
    same = [own["accuracy"][0] for own in baselines if own["rows"] == run["rows"]]
    return f"The best surrogate: {_theft(run)}. The victim’s own accuracy is {percent(victim['accuracy'][0])}" + (
        f"; trained on as many rows with true labels, a model reaches {percent(same[0])}." if same else "."
    )


def _elsewhere(runs: Sequence[Run]) -> str:
    if not runs:
        return "There was one policy only."
    return "The best surrogate under each other policy: " + "; ".join(map(_theft, runs)) + "."


def _theft(run: Run) -> str:
    stopped = "" if run["status"] == "done" else f" ({run['status']}: {str(run['reason']).partition(':')[0]})"
    return (
        f"{run['attack']} at {run['policy']}, {count(run['rows'])} rows for {money(run['money'])} currency "
        f"units{stopped}: accuracy {percent(run['accuracy'][0])}, agreement {percent(agreement(run))}"
    )


def _membership(scored: Sequence[Run]) -> str:
    attacks = [run for run in scored if run["attack"] != BASELINE]
    if not attacks:
        return "No membership attack other than the baseline could be run."
    run = max(attacks, key=lambda own: auc(own) - 1.96 * own["auc_error"])  # few candidates reach much by chance
    baseline = [own for own in scored if (own["attack"], own["policy"]) == (BASELINE, run["policy"])]
    enough = [own for own in attacks if own["others"] >= 1000] or attacks  # of fewer, 0.1 % is less than one
    sharp = max(enough, key=lambda own: float(own["tpr_at"]["0.001"][1]))
    found, low, high = sharp["tpr_at"]["0.001"]
    return (
        f"The best of {len(attacks)} membership attacks is {run['attack']} at {run['policy']}: AUC {auc(run):.3f} "
        f"± {1.96 * run['auc_error']:.3f}, where chance is 0.5"
        + (f" and the {BASELINE} baseline reaches {auc(baseline[0]):.3f}" if baseline else "")
        + f". At 0.1 % false positives the best ({sharp['attack']} at {sharp['policy']}) finds "
        f"{percent(found, 2)} ({percent(low, 2)} to {percent(high, 2)}) of the members."
    )


NAMES = {"twin-test": "The twin test", "dawn": "DAWN’s marks", "dataset-inference": "Dataset inference"}


def _ownership(results: Run) -> str:
    false = false_accusations(results)
    return " ".join(
        _tested(NAMES[test], found, false.get(test)) for test, found in tests_of(results).items() if found
    )


def _tested(name: str, suspects: Sequence[Run], false: Run | None) -> str:
    verdicts = {
        kind: [suspect["verdict"] == "accused" for suspect in suspects if suspect["kind"] == kind]
        for kind in ("victim", "stolen")
    }
    stolen, blind = verdicts["stolen"], bool(verdicts["victim"]) and not any(verdicts["victim"])
    itself = "the victim itself and " if any(verdicts["victim"]) else ""
    line = f"{name}: {itself}{sum(stolen)} of {len(stolen)} stolen models accused"
    if false is not None:
        line += (
            f", and, falsely, {false['accused']} of {false['suspects']} independent models (exact 95 % interval "
            f"{percent(false['low'])} to {percent(false['high'])})"
        )
    if false is not None and false["accused"]:
        return f"{line}; a test that accuses models that have nothing to do with the victim proves nothing here."
    if blind:
        return f"{line}; at this size it does not recognise even the victim, and proves nothing."
    return f"{line}." if any(stolen) else f"{line}; no theft is proved."


def judged(judgement: Run | None) -> list[tuple[str, str]]:
    """Returns the line about the judgement, if there is one."""
    if not judgement:
        return []
    beside = f" (z {judgement['z']:.1f}, line {judgement['limit']:.1f})" if judgement["z"] is not None else ""
    line = (
        f"A judge repeated the twin test of {judgement['suspect']}: {judgement['outcome']}{beside}. He asked "
        f"{count(judgement['rows'])} rows, for {money(judgement['money'])} currency units."
    )
    return [("Judgement", line)]


def _billed(results: Run) -> str:
    *attacks, owner = costs(results)
    spent = [cost.money for cost in attacks]
    known = [part for part in spent if part is not None]
    runs = [*results["extraction"], *results["membership"]]
    wrong = sum(bool(differences(run)) for run in runs)
    return (
        f"The server answered {count(sum(cost.rows for cost in attacks))} rows in {len(runs)} attacks, for "
        f"{money(sum(known) if len(known) == len(spent) else None)} currency units, and {count(owner.rows)} rows "
        "in the owner’s tests. "
        + (
            f"THE SERVER’S LEDGER DIFFERS from the client’s count in {wrong} of {len(runs)} attacks."
            if wrong
            else "In every attack the server’s ledger equals the client’s own count."
        )
    )
