"""``python -m owner dawn`` and ``judge-dawn``: an account's marks, put to a suspect, and before a judge."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from cli.flags import from_fields
from cli.keys import read_key
from cli.meter import metered
from defenses.watermarks.ledger import Opening
from owner.dawn import SPENT, Dawn, Marks
from owner.evidence import expect_writable
from wire import Answer, Array, BadInput, Malformed, Oracle, Refused, Unreachable
from wire.http import CardOptions, Endpoint
from wire.tensors import read_json
from zoo import folder
from zoo.penultimate import penultimate


def run(arguments: argparse.Namespace) -> str:
    """Runs either, and returns what was found in words."""
    method = from_fields(Dawn, arguments)
    key = read_key(arguments.key, arguments.key_file)
    caution: list[str] = []
    expect_writable(arguments.out)
    evidence = Marks.load(arguments.evidence) if arguments.proof == "judge-dawn" else None
    if evidence is None and arguments.open and not _is_url(arguments.marks):
        raise BadInput("--open asks the victim's server: give the marks' URL, not a file")
    opening = _opening(arguments.marks, arguments.marks_key) if evidence is None else evidence.opening
    with ExitStack() as stack:
        options = from_fields(CardOptions, arguments)
        endpoint = Endpoint(arguments.url, model=arguments.model, key=key, options=options)
        suspect = stack.enter_context(metered(endpoint, patience=arguments.patience, label="suspect"))
        independent = {
            place: stack.enter_context(_model(place, arguments.independent_key or key)).oracle
            for place in arguments.independent
        }
        where = f"{endpoint.base} {endpoint.model}"
        if evidence is None:
            found = method.accuse(suspect, opening, independent, where)
            if arguments.open:
                found = _opened(found, arguments.marks, arguments.marks_key)
        else:
            victim = stack.enter_context(_model(arguments.victim, arguments.victim_key or key))
            found = method.judge(
                evidence, arguments.root, victim.oracle, victim.weights, suspect, independent, where, victim.inner
            )
            if victim.weights is None:
                caution.append(
                    "  whether the victim's weights are those committed to was not seen: give its folder"
                )
    found.save(arguments.out)
    return "\n".join([told(found), *caution, f"evidence in {arguments.out}"])


def told(found: Marks) -> str:
    """Says in a few lines what was found."""
    lines = [
        f"{found.suspect}: {found.verdict} at confidence 1 - 2^-{found.bits:g}",
        f"  {found.matches} of {found.marks} marks of account {found.opening.account} hold: "
        f"mark error {found.mark_error:.3f}, at most {found.error:g} accuses",
        f"  a model that was not stolen passes with probability {found.tail:.3g} "
        f"(has so few errors: {found.p_value:.3g}), at p0 {found.p0:.4f}",
    ]
    if found.independent:
        lines += [f"  independent model {name}: {held} marks hold" for name, held in found.independent.items()]
    else:
        lines.append("  p0 is that of guessing: no independent model was asked")
    if found.doubtful:
        lines.append(f"  {found.doubtful} marks count as failed: the victim answers otherwise now")
    if found.repeated:
        lines.append(f"  {found.repeated} more marks are not counted: near-duplicates, which are told alike")
    if found.verdict == "inconclusive":
        missing = "no number of marks would do" if found.missing is None else f"{found.missing} more marks needed"
        lines.append(f"  {missing}")
    if found.key is not None:
        lines.append(f"  {SPENT}")
    return "\n".join(lines)


class _Model(NamedTuple):
    """A model, and where it lies in a folder the SHA-256 of its weights and what its last layer is given."""

    oracle: Oracle
    weights: str | None = None
    inner: Callable[[Array], Array] | None = None


@contextmanager
def _model(place: str, key: str | None) -> Iterator[_Model]:
    """Opens a model that lies in a folder or is served."""
    if not Path(place).is_dir():
        if not _is_url(place):
            raise BadInput(f"{place}: neither a model's folder nor a URL (http://... or https://...)")
        with metered(Endpoint(place, key=key), label=place) as oracle:
            yield _Model(oracle)
        return
    model = folder.load(Path(place))

    def answer(x: Array) -> Answer:
        probs = model.predict(x)
        return Answer(probs.argmax(axis=1), probs)

    def activations(x: Array) -> Array:
        return penultimate(model.network()).logits(x)

    oracle = Oracle(answer, dataclasses.replace(model.card(), model=place))
    yield _Model(oracle, folder.fingerprint(model), activations)


def _opening(place: str, key: str | None) -> Opening:
    content = _asked("GET", place, key) if _is_url(place) else _read(Path(place))
    return Opening.from_json(content, place)


def _opened(found: Marks, place: str, key: str | None) -> Marks:
    content = _asked("POST", place.partition("?")[0].rpartition("/")[0] + "/open", key)
    return dataclasses.replace(found, key=str(read_json(content)["key"]))


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None


def _asked(method: str, url: str, key: str | None) -> bytes:
    try:
        reply = httpx.request(method, url, headers={"Authorization": f"Bearer {key}"} if key else {}, timeout=60.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unreachable(f"{url}: {error}") from None
    if reply.status_code >= 400:
        try:
            why = read_json(reply.content)["error"]
        except (Malformed, KeyError, TypeError):
            why = reply.reason_phrase
        raise Refused(f"{url}: {why}", status=reply.status_code)
    return reply.content
