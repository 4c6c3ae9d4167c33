"""``python -m server calibrate VICTIM``: chooses a detector's threshold on harmless rows, and tries it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from defenses import DETECTORS, Monitored
from defenses.detectors.calibration import Calibrated, Calibration
from defenses.detectors.detector import CrossAccountDetector, Featurizer, LinkedDetector
from defenses.store import open_store
from server.commands.harmless import Harmless, Stream
from server.commands.overrides import overrides
from server.control.log import ControlLog
from server.layer_tables import defense_of
from server.settings import Settings, Victim
from wire import Array, BadInput, Labels, Query
from zoo.exact_interval import exact_interval

if TYPE_CHECKING:
    from server.deployment.models import LoadedModel

CALIBRATED: dict[str, Any] = {kind: cls for kind, cls in DETECTORS.items() if hasattr(cls, "calibrated")}


def calibrate(settings: Settings, arguments: dict[str, Any]) -> str:
    """Chooses the threshold on one half of the rows and tries it on the other; returns the lines to print.

    Args:
        settings: The server's settings.
        arguments: The flags, as the command line parses them.

    Raises:
        BadInput: There is no such victim, the rows do not fit it or are too few, or the detector cannot be built.
    """
    from server.deployment.models import load_all  # here, since making an account should not wait for torch

    kind = arguments["detector"]
    if kind not in CALIBRATED:
        raise BadInput(f"{kind} has no threshold that calibrate chooses; these have: {', '.join(CALIBRATED)}")
    victim = _victim(settings, arguments["victim"])
    table = next((layer for layer in victim.defenses if layer["type"] == kind), {})
    table = overrides(table, kind, arguments["set"], arguments["config"])
    alone = settings.model_copy(update={"victims": (victim.model_copy(update={"defenses": ()}),)})
    served = load_all(alone)[victim.name]
    untuned = defense_of({**table, **CALIBRATED[kind].uncalibrated})
    assert isinstance(untuned, Monitored) and isinstance(untuned.detector, Calibrated)
    untuned.disclose(served.card)
    dismissed = asyncio.run(_dismissed(settings, victim.name)) if arguments["dismissed"] else None
    harmless = Harmless.read(arguments["rows"], served.card, dismissed)
    rows, labels = asyncio.run(_observed(untuned.detector, served, harmless.x))
    rng = np.random.default_rng(arguments["seed"])
    if harmless.streams:
        chosen, held_out = harmless.halves(rng)
    else:
        chosen, held_out = _drawn(harmless.x, arguments, rng)
    linked = isinstance(untuned.detector, LinkedDetector)
    given: list[list[Any]] = [
        [(rows[one.rows], labels[one.rows], *([one.sent] if linked and one.sent else [])) for one in of]
        for of in (chosen, held_out)
    ]
    streams, others = given
    fewest = min(_by_kind(chosen).values())
    # Of all streams so small a share that it is at most the share asked for of any kind.
    tuned, found = untuned.detector.calibrated(streams, others, arguments["fpr"] * fewest / len(chosen))
    table |= {field: getattr(tuned, field) for field in CALIBRATED[kind].uncalibrated}
    lines = _described(found, arguments, len(chosen), table)
    if harmless.streams:
        lines[-1:-1] = _accusations(tuned, held_out, others)
    elif 2 * sum(len(one.rows) for one in held_out) > len(harmless.x):
        lines.insert(-1, "these streams share rows, so the interval is narrower than it should be: give more rows")
    return "\n".join(lines)


async def _dismissed(settings: Settings, model: str) -> dict[str, float]:
    """Returns the accounts at a model whose alarms were dismissed as harmless, with the time of that."""
    store = open_store(settings.store_url())
    try:
        control = ControlLog(store)
        await control.catch_up()
        return control.alarms.dismissed(model)
    finally:
        await store.close()


def _drawn(x: Array, arguments: dict[str, Any], rng: np.random.Generator) -> tuple[list[Stream], list[Stream]]:
    """Draws streams from either half of rows that nobody sent."""
    size, count = arguments["stream"], arguments["streams"]
    if len(x) < 2 * size:
        raise BadInput(
            f"{arguments['rows'][0]}: it has {len(x)} rows; expected at least {2 * size}, for streams of {size} "
            "from either half"
        )
    halves = np.array_split(rng.permutation(len(x)), 2)
    first, second = ([Stream("", rng.permutation(half)[:size]) for _ in range(count)] for half in halves)
    return first, second


def _by_kind(streams: Sequence[Stream]) -> Counter[str]:
    return Counter(stream.kind for stream in streams)


def _accusations(detector: Any, held_out: Sequence[Stream], streams: Sequence[tuple[Array, Labels]]) -> list[str]:
    """Returns a line for each kind of customer: how many of the held-out accounts are accused."""
    if isinstance(detector, CrossAccountDetector):
        together: Any = detector
        alarms = {int(name) for name in together.accused(streams)}
    else:
        states = (detector.observe(detector.begin(), rows, labels) for rows, labels in streams)
        alarms = {number for number, state in enumerate(states) if state.alarm is not None}
    accused = Counter(held_out[number].kind for number in alarms)
    lines = []
    for kind, count in _by_kind(held_out).items():
        share, low, high = exact_interval(accused[kind], count)
        lines.append(
            f"  {kind}: {accused[kind]} of {count} accounts accused, {share:.2%} (95 % interval {low:.2%} to "
            f"{high:.2%})"
        )
    return lines


def _described(found: Calibration, arguments: dict[str, Any], streams: int, table: dict[str, Any]) -> list[str]:
    fields = ", ".join(f"{field} = {json.dumps(value, default=str)}" for field, value in table.items())
    return [
        f"threshold {found.delta:.6g}, chosen to accuse at most {arguments['fpr']:.2%} of {streams} streams",
        f"held out: {found.accused} of {found.streams} other streams accused, {found.accused / found.streams:.2%} "
        f"(95 % interval {found.low:.2%} to {found.high:.2%})",
        f"{{ {fields} }}",
    ]


def _victim(settings: Settings, name: str) -> Victim:
    names = {victim.name: victim for victim in settings.victims}
    if name not in names:
        raise BadInput(f"there is no victim {name!r}; there are {', '.join(names)}")
    return names[name]


async def _observed(detector: object, served: LoadedModel, x: Array) -> tuple[Array, Labels]:
    """Returns what the detector observes of rows, ``(n, ...)``, and the victim's labels, ``(n,)``."""
    features = None
    if isinstance(detector, Featurizer):
        features = await detector.featurizer(served.companions, served.card)
    observed, labels = [], []
    for start in tqdm(range(0, len(x), served.card.max_rows), desc="asking", unit="batch", dynamic_ncols=True):
        rows = x[start : start + served.card.max_rows]
        labels.append((await served(Query("calibration", rows, 0.0))).labels)
        observed.append(rows if features is None else await features(rows, labels[-1]))
    return np.concatenate(observed), np.concatenate(labels)
