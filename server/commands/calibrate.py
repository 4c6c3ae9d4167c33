"""``python -m server calibrate VICTIM``: chooses a detector's threshold on harmless rows, and tries it."""

from __future__ import annotations

import asyncio
import json
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from defenses import DETECTORS, Monitored
from defenses.detectors.calibration import Calibrated, Calibration
from defenses.detectors.detector import Featurizer
from server.settings import Settings, Victim, defense_of, layer_placed
from wire import Array, BadInput, Card, Labels, Malformed, Query
from wire.fits import as_bytes, misfit
from zoo.data.pool import Pool

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
    folder = Path() if arguments["config"] is None else arguments["config"].parent
    table = {**table, **layer_placed(folder, {"type": kind, **_fields(arguments["set"])})}
    table = layer_placed(Path.cwd(), table)  # so that the printed table holds in any configuration
    alone = settings.model_copy(update={"victims": (victim.model_copy(update={"defenses": ()}),)})
    served = load_all(alone)[victim.name]
    untuned = defense_of({**table, **CALIBRATED[kind].uncalibrated})
    assert isinstance(untuned, Monitored) and isinstance(untuned.detector, Calibrated)
    untuned.disclose(served.card)
    x = _rows(arguments["rows"], served.card)
    size, count = arguments["stream"], arguments["streams"]
    if len(x) < 2 * size:
        raise BadInput(
            f"{arguments['rows']}: it has {len(x)} rows; expected at least {2 * size}, for streams of {size} from "
            "either half"
        )
    rows, labels = asyncio.run(_observed(untuned.detector, served, x))
    rng = np.random.default_rng(arguments["seed"])
    halves = np.array_split(rng.permutation(len(x)), 2)
    draws = [[rng.permutation(half)[:size] for _ in range(count)] for half in halves]
    chosen, held_out = ([(rows[at], labels[at]) for at in of] for of in draws)
    tuned, found = untuned.detector.calibrated(chosen, held_out, arguments["fpr"])
    table |= {field: getattr(tuned, field) for field in CALIBRATED[kind].uncalibrated}
    return "\n".join(_described(found, arguments, count * size > len(halves[1]), table))


def _described(found: Calibration, arguments: dict[str, Any], overlap: bool, table: dict[str, Any]) -> list[str]:
    lines = [
        f"threshold {found.delta:.6g}, chosen to accuse at most {arguments['fpr']:.2%} of {arguments['streams']} "
        f"streams of {arguments['stream']} rows",
        f"held out: {found.accused} of {found.streams} other streams accused, {found.accused / found.streams:.2%} "
        f"(95 % interval {found.low:.2%} to {found.high:.2%})",
    ]
    if overlap:
        lines.append("these streams share rows, so the interval is narrower than it should be: give more rows")
    fields = ", ".join(f"{field} = {json.dumps(value, default=str)}" for field, value in table.items())
    return [*lines, f"{{ {fields} }}"]


def _victim(settings: Settings, name: str) -> Victim:
    names = {victim.name: victim for victim in settings.victims}
    if name not in names:
        raise BadInput(f"there is no victim {name!r}; there are {', '.join(names)}")
    return names[name]


def _fields(given: list[str]) -> dict[str, Any]:
    return {field: value for each in given for field, value in _field(each).items()}


def _field(given: str) -> dict[str, Any]:
    name, _, value = given.partition("=")
    for written in (given, f"{name}={json.dumps(value)}"):  # a string may go without quotes, as a shell leaves it
        with suppress(tomllib.TOMLDecodeError):
            return tomllib.loads(written)
    raise BadInput(f"--set {given}: expected FIELD=VALUE as in TOML")


def _rows(path: Path, card: Card) -> Array:
    """Reads harmless rows, in the type in which the victim takes them."""
    x = Pool.load(path).x
    try:
        if card.dtype == "UINT8":
            x = as_bytes(x)
    except Malformed as error:
        raise BadInput(f"{path}: {error}") from None
    if wrong := misfit(x, card):
        raise BadInput(f"{path}: {wrong}")
    return x


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
