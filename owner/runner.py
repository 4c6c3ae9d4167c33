"""Runs the proofs of ``mlaas-range prove`` with their parsed arguments.

A proof is three calls of :class:`~owner.ownership.Ownership`. The owner's holdings are loaded field by field: the
names of a method's fields are those of entries in :data:`LOADERS`.
"""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np

from cli.endpoint import reach
from cli.flags import from_fields
from cli.keys import read_key
from cli.meter import metered
from defenses.watermarks.ledger import Opening
from owner import PROOFS
from owner.commitment import receipt
from owner.evidence import MOST, Evidence, describe, expect_writable
from owner.judge import Victim
from owner.log.log import Log
from owner.ownership import KeepsStudy, Ownership
from owner.scheme_key import SchemeKey
from owner.trigger_key import TriggerKey
from owner.twins import study as studies
from owner.twins.known import Known
from owner.twins.twins import Twins, answering
from wire import Array, BadInput, Malformed, Oracle, Refused, Unreachable
from wire.files import read_bytes
from wire.http import Endpoint
from wire.tensors import read_json
from zoo import folder
from zoo.data.pool import Pool
from zoo.network import Network
from zoo.penultimate import penultimate


class Run(NamedTuple):
    """A running command.

    Attributes:
        arguments: The parsed arguments.
        stack: Closes the opened resources.
        endpoints: The opened endpoints, by the prefix of their flags.
    """

    arguments: argparse.Namespace
    stack: ExitStack
    endpoints: dict[str, Endpoint]


def prove(arguments: argparse.Namespace) -> str:
    """Tests a suspect; returns a description of the findings.

    Raises:
        BadInput: The arguments are invalid; nothing was queried.
        WireError: A model stopped answering.
    """
    method: Ownership[Any, Any] = from_fields(PROOFS[arguments.proof], arguments)
    seed, features = getattr(arguments, "seed", 0), getattr(arguments, "features", None)
    if seed < 0:
        raise BadInput(f"--seed is {seed}, but must be at least 0")
    log = Log.open(arguments.log) if getattr(arguments, "log", None) else None
    if getattr(arguments, "study", None):
        features = arguments.study / f"{arguments.proof}.npz"
    for path in filter(None, (arguments.out, features)):
        expect_writable(path)
    with ExitStack() as stack:
        run, most = Run(arguments, stack, {}), method.most_rows()
        suspect, holdings = endpoint_of(run), _holdings(method, run)
        method.check(suspect.card, holdings)
        prepare_rng, accuse_rng = np.random.default_rng(seed).spawn(2)
        victim_url = run.endpoints["victim_"].base if "victim_" in run.endpoints else ""
        about = {"seed": seed, "victim": victim_url}
        if features and features.exists() and isinstance(method, KeepsStudy):
            study = method.load_study(features, holdings, about)
        else:
            with _asking(run, holdings, most.victim) as asked:
                study = method.prepare(asked, prepare_rng)
            if features and isinstance(method, KeepsStudy):
                method.save_study(study, features, about)
        with metered(suspect, budget=most.suspect, patience=arguments.patience, label="suspect") as oracle:
            found = method.accuse(oracle, study, accuse_rng)
    found = dataclasses.replace(found, suspect_url=suspect.base, victim_url=victim_url, suspect_money=oracle.money)
    return written(found if log is None else found.signed(log.key), arguments.out)


def written(evidence: Evidence[Any], path: Path) -> str:
    """Writes evidence, and returns its description."""
    evidence.save(path)
    return f"{describe(evidence)}\nevidence in {path}"


def _holdings(method: Ownership[Any, Any], run: Run) -> Any:
    """Loads a method's holdings."""
    kind = typing.get_type_hints(method.prepare)["holdings"]
    return kind(**{field.name: LOADERS[field.name](run) for field in dataclasses.fields(kind)})


@contextmanager
def _asking(run: Run, holdings: Any, most: int | None) -> Iterator[Any]:
    """Opens a metered oracle of the victim, if the method queries it."""
    if not hasattr(holdings, "victim"):
        yield holdings
        return
    endpoint = endpoint_of(run, "victim_")
    with metered(endpoint, budget=most, patience=run.arguments.patience, label="victim") as oracle:
        yield dataclasses.replace(holdings, victim=oracle)


def _victim(run: Run) -> Oracle:
    """Returns the victim without metering, to read its card."""
    endpoint = endpoint_of(run, "victim_")
    return Oracle(endpoint, endpoint.card)


def endpoint_of(run: Run, prefix: str = "") -> Endpoint:
    """Returns the endpoint of the flags with a prefix, which is opened once."""
    if prefix in run.endpoints:
        return run.endpoints[prefix]
    endpoint = run.endpoints[prefix] = reach(run.arguments, prefix=prefix)
    run.stack.callback(endpoint.close)
    return endpoint


def _key(arguments: argparse.Namespace) -> str | None:
    return read_key(arguments.key, arguments.key_file)


def _opening(run: Run) -> Opening:
    return _opening_at(run, run.arguments.marks[0])


def _opening_at(run: Run, place: str) -> Opening:
    if run.arguments.open and not _is_url(place):
        raise BadInput("--open needs the victim's server: give the marks' URL, not a file")
    content = _asked("GET", place, run.arguments.marks_key) if _is_url(place) else _read(Path(place))
    return Opening.from_json(content, place)


def _marks_key(run: Run) -> Callable[[], str] | None:
    """Returns a function that reveals the marks' key through the victim's server, with --open; else None."""
    if not run.arguments.open:
        return None
    url = run.arguments.marks[0].partition("?")[0].rpartition("/")[0] + "/open"
    return lambda: str(read_json(_asked("POST", url, run.arguments.marks_key))["key"])


def independent_of(run: Run) -> Mapping[str, Oracle]:
    """Opens the independent models."""
    given = run.arguments
    return {place: model_at(run, place, given.independent_key).oracle for place in given.independent}


def model_at(run: Run, place: str, key: str | None) -> Victim:
    """Opens a model from a folder or a URL."""
    if not Path(place).is_dir():
        if not _is_url(place):
            raise BadInput(f"{place}: neither a model's folder nor a URL (http://... or https://...)")
        endpoint = Endpoint(place, key=key or _key(run.arguments))
        return Victim(run.stack.enter_context(metered(endpoint, label=place)))
    return of_folder(Path(place))


def of_folder(path: Path) -> Victim:
    """Opens a model from a folder."""
    model = folder.load(path)

    def activations(x: Array) -> Array:
        return penultimate(model.network()).logits(x)

    oracle = Oracle(answering(model.predict), dataclasses.replace(model.card(), model=str(path)))
    return Victim(oracle, folder.fingerprint(model), activations)


def _known(run: Run) -> Known:
    known = studies.load_known(run.arguments.study)
    return dataclasses.replace(known, twins=_receipted(run, known.twins))


def _backdoor(run: Run) -> TriggerKey:
    key = TriggerKey.load(run.arguments.mark)
    if not run.arguments.log:
        return key
    return dataclasses.replace(key, receipt=receipt(Log.open(run.arguments.log), key.entry, key.opened_rule()))


def _committed(run: Run) -> SchemeKey | None:
    given = run.arguments
    if not given.mark:
        if given.log:
            raise BadInput("--log needs --mark, the folder of the key that `mlaas-range prove` made")
        return None
    key = SchemeKey.load(given.mark)
    if not given.log:
        return key
    return dataclasses.replace(key, receipt=receipt(Log.open(given.log), key.entry, key.opened_rule()))


def _marker(run: Run) -> Network | None:
    return folder.load(run.arguments.marker).network() if run.arguments.marker else None


def _receipted(run: Run, twins: Twins) -> Twins:
    """Returns twins with the receipt of the owner's log, if one is given."""
    if not run.arguments.log:
        return twins
    plan = studies.read(run.arguments.study)
    return dataclasses.replace(twins, receipt=receipt(Log.open(run.arguments.log), plan.entry, plan.rule))


LOADERS: dict[str, Callable[[Run], Any]] = {
    "victim": _victim,
    "private": lambda run: Pool.load(run.arguments.private),
    "unseen": lambda run: Pool.load(run.arguments.unseen),
    "opening": _opening,
    "others": lambda run: tuple(_opening_at(run, place) for place in run.arguments.marks[1:]),
    "independent": independent_of,
    "backdoor": _backdoor,
    "committed": _committed,
    "marker": _marker,
    "network": lambda run: folder.load(run.arguments.victim).network(),
    "reference": lambda run: Pool.load(run.arguments.reference),
    "vanilla": lambda run: Pool.load(run.arguments.vanilla),
    "marked": lambda run: Pool.load(run.arguments.marked),
    "key": _marks_key,
    "twins": lambda run: _receipted(run, studies.load(run.arguments.study)),
    "known": _known,
}
"""Loaders of the owner's holdings, by the name of the field."""


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, MOST)
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
