"""``python -m server detect --log FILE``: runs detectors over a log of requests; the alarms are those of a server.

The fold is the one that a served monitor uses (:class:`~defenses.monitoring.fold.Fold`), so that a log which a
server recorded raises the same alarms at the same rows. What a log has not, the victim of the configuration adds:
its labels, and the features of detectors that do not watch the rows themselves.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from defenses import DETECTORS, Monitored
from defenses.detectors.detector import CrossAccountDetector, Features, Featurizer, Sent
from defenses.monitoring.fold import Fold
from defenses.monitoring.records import Entry
from server.commands.access_log import Log, Request
from server.commands.overrides import overrides
from server.layer_tables import defense_of
from server.settings import Settings
from wire import Array, BadInput, Card, Labels, Query
from wire.fits import misfit
from zoo.data.pool import bytes_to_rows

if TYPE_CHECKING:
    from server.deployment.models import LoadedModel

CLASSES = 1024  # most classes of a victim that is not at hand
_UNKNOWN = Sent()


class Watched:
    """One detector of one model, over the whole log."""

    def __init__(self, model: str, monitored: Monitored) -> None:
        """Begins without rows."""
        self.model, self.kind, self.detector = model, monitored.kind, monitored.detector
        self._monitored = monitored
        self._together = isinstance(self.detector, CrossAccountDetector)
        self._folds: dict[str, Fold] = {}
        self._features: Features | None = None

    async def features(self, served: LoadedModel | None, x: Array, labels: Labels) -> Array:
        """Returns what the detector observes of rows ``(n, ...)``.

        Raises:
            BadInput: The features need a victim, and there is none.
        """
        if not isinstance(self.detector, Featurizer):
            return x.reshape(len(x), -1)
        if self._features is None:
            if served is None:
                card = Card(self.model or "the log", x.shape[1:], CLASSES, low=None, high=None)
                self._features = await self.detector.featurizer(_Nobody(), card)
            else:
                self._monitored.disclose(served.card)
                self._features = await self.detector.featurizer(served.companions, served.card)
        most = 1024 if served is None else served.card.max_rows
        parts = [await self._features(x[at : at + most], labels[at : at + most]) for at in range(0, len(x), most)]
        return np.concatenate(parts)

    def fold(self, requests: Sequence[Request], rows: Array, labels: Labels) -> Iterator[dict[str, Any]]:
        """Folds the rows of requests; yields the alarms that they raise."""
        accounts: dict[str, tuple[list[Request], list[Entry]]] = {}
        at = 0
        for request in requests:
            name = request.account if self._together else None
            part = slice(at, at := at + request.rows)
            cleared = request.clears.get(self.kind, 0)
            of = accounts.setdefault("*" if self._together else request.account, ([], []))
            of[0].append(request)
            sent = Sent(request.at, request.origin) if self._together else _UNKNOWN
            of[1].append(Entry(rows[part], labels[part], request.key, name, cleared, sent))
        for name, (asked, entries) in accounts.items():
            if name not in self._folds:
                self._folds[name] = Fold(self.detector, name)
            fold = self._folds[name]
            for part in _between_clears(asked, entries, fold):
                yield from self._alarms(fold, asked[part], entries[part])

    def _alarms(self, fold: Fold, asked: Sequence[Request], entries: Sequence[Entry]) -> Iterator[dict[str, Any]]:
        cleared = asked[0].account if entries[0].clears > fold.clears(asked[0].account) else None
        known = {account for account in fold.alarms() if account != cleared}
        before = fold.fold(entries)
        for account, alarm in fold.alarms().items():
            if account in known:
                continue
            places = (
                asked[i]
                for i, sent in before.items()
                if asked[i].account == account and sent < alarm.row <= sent + asked[i].rows
            )
            request = next(places, asked[-1])  # another account's rows may accuse one
            yield {
                "account": account,
                "model": request.model,
                "detector": self.kind,
                "row": alarm.row,
                "statistic": alarm.statistic,
                "reaction": self._monitored.consequence.reaction,
                "at": request.at,
                "line": request.line,
            }


def _between_clears(asked: Sequence[Request], entries: Sequence[Entry], fold: Fold) -> Iterator[slice]:
    """Divides entries where an account was cleared, so that the alarm before is not lost."""
    clears: dict[str, int] = {}
    begin = 0
    for i, entry in enumerate(entries):
        account = asked[i].account
        if entry.clears > clears.get(account, fold.clears(account)):
            clears[account] = entry.clears
            if i > begin:
                yield slice(begin, i)
            begin = i
    yield slice(begin, len(entries))


def detect(settings: Settings, arguments: dict[str, Any]) -> Iterator[str]:
    """Yields each alarm as a line of JSON; says at the end, on standard error, how many there were.

    Args:
        settings: The server's settings.
        arguments: The flags, as the command line parses them.

    Raises:
        BadInput: The log or its rows are not what they should be, or a detector cannot be built.
    """
    log, begun = Log(arguments["requests"]), time.perf_counter()
    replay = Replay(settings, arguments, log)
    lines = alarms = 0
    bar = tqdm(total=log.size, unit="B", unit_scale=True, desc="reading", dynamic_ncols=True)
    with bar, asyncio.Runner() as runner:
        for block in log.blocks():
            found = runner.run(replay.alarms(block))
            yield from map(json.dumps, found)
            lines, alarms = lines + len(block), alarms + len(found)
            bar.update(log.done - bar.n)
    rate = lines / (time.perf_counter() - begun)
    sys.stderr.write(f"{lines:,} lines, {alarms:,} alarms, {rate:,.0f} lines a second\n")


class Replay:
    """The detectors of a configuration, or of the command line, over a log."""

    def __init__(self, settings: Settings, arguments: dict[str, Any], log: Log) -> None:
        """Takes what to run.

        Raises:
            BadInput: The detector of the command line cannot be built.
        """
        self._settings, self._log = settings, log
        self._configured = arguments["config"] is not None
        self._given: dict[str, Any] | None = None
        if arguments["detector"] is not None:
            self._given = overrides({}, arguments["detector"], arguments["set"], arguments["config"])
        elif not self._configured:
            raise BadInput("detect needs --config with the victims' detectors, or a --detector with its --set")
        self._watched: dict[tuple[str, str, str], Watched] = {}  # by place, kind and settings
        self._detectors: dict[str, list[Watched]] = {}  # by model
        self._victims: dict[str, LoadedModel | None] = {}

    async def alarms(self, block: Sequence[Request]) -> list[dict[str, Any]]:
        """Folds a block; returns the alarms in it, in the order of its lines."""
        places: dict[str, list[Request]] = {}
        for request in block:
            places.setdefault(request.place, []).append(request)
        found = [alarm for place, requests in places.items() for alarm in await self._at(place, requests)]
        return sorted(found, key=lambda alarm: alarm["line"])

    async def _at(self, place: str, requests: Sequence[Request]) -> list[dict[str, Any]]:
        models = {request.model: request for request in requests}
        detectors = {model: self._of(place, request) for model, request in models.items()}
        seen: dict[tuple[str, ...], tuple[Array, Labels]] = {}  # rows and labels, by the models that were asked
        found: list[dict[str, Any]] = []
        for watched in dict.fromkeys(each for of in detectors.values() for each in of):
            asked = tuple(model for model, of in detectors.items() if watched in of)
            mine = requests if len(asked) == len(models) else [each for each in requests if each.model in asked]
            features, labels = self._log.array(mine, watched.kind), np.zeros(0, np.int64)
            if features is None:
                if asked not in seen:
                    seen[asked] = await self._rows(place, mine, watched.kind)
                x, labels = seen[asked]
                features = await watched.features(self._victim(place), x, labels)
            labels = labels if len(labels) else np.zeros(len(features), np.int64)
            try:
                found += watched.fold(mine, features, labels)
            except ValueError as fault:
                raise self._log.fault(mine[0].line, f"{watched.kind}: {fault}, from this line on") from None
        return found

    def _of(self, place: str, request: Request) -> list[Watched]:
        """Returns the detectors of a model; names of the same weights share those with the same settings."""
        if (model := request.model) in self._detectors:
            return self._detectors[model]
        if self._given is not None:
            tables = [self._given]
        else:
            victims = {victim.name: victim for victim in self._settings.victims}
            name = next(iter(victims)) if not model and len(victims) == 1 else model
            if name not in victims:
                raise self._log.fault(
                    request.line,
                    f"there is no victim {name!r} in the configuration; there are {', '.join(victims)}",
                )
            tables = [table for table in victims[name].defenses if table["type"] in DETECTORS]
        self._detectors[model] = []
        for layer in map(defense_of, tables):
            assert isinstance(layer, Monitored)
            shared = self._watched.setdefault((place, layer.kind, str(layer.detector)), Watched(place, layer))
            self._detectors[model].append(shared)
        return self._detectors[model]

    def _victim(self, place: str) -> LoadedModel | None:
        """Loads a model of the configuration; None if there is none of this name."""
        if place not in self._victims:
            from server.deployment.models import load_all  # here, since a log that has all needs no torch

            victims = self._settings.victims if self._configured else ()
            named = [victim for victim in victims if victim.name == place or (not place and len(victims) == 1)]
            bare = tuple(victim.model_copy(update={"defenses": ()}) for victim in named)
            alone = self._settings.model_copy(update={"victims": bare})
            self._victims[place] = load_all(alone)[bare[0].name] if bare else None
        return self._victims[place]

    async def _rows(self, place: str, requests: Sequence[Request], kind: str) -> tuple[Array, Labels]:
        """Returns the rows of requests, ``(n, ...)``, and the victim's own labels, ``(n,)``."""
        x = self._log.array(requests, "x")
        if x is None:
            raise self._log.fault(
                requests[0].line, f'{requests[0].file} has neither an array "{kind}" nor the rows ("x")'
            )
        if (served := self._victim(place)) is not None:
            x = bytes_to_rows(x) if x.dtype == np.uint8 and served.card.dtype == "FP32" else x
            if wrong := misfit(x, served.card):
                raise self._log.fault(requests[0].line, f"{wrong}, from this line on")
        return x, await self._labels(place, requests, x)

    async def _labels(self, place: str, requests: Sequence[Request], x: Array) -> Labels:
        """Returns the victim's own labels, ``(n,)``: the log's, or new ones."""
        if all(request.labels is not None for request in requests):
            return np.array([label for request in requests for label in request.labels or ()], np.int64)
        found = self._log.array(requests, "labels")
        if found is not None:
            return found.astype(np.int64)
        if (served := self._victim(place)) is None:
            raise self._log.fault(
                requests[0].line, 'neither it nor its file has "labels", and there is no victim to ask'
            )
        most = served.card.max_rows
        asked = [await served(Query("", x[at : at + most], 0.0)) for at in range(0, len(x), most)]
        return np.concatenate([answer.labels for answer in asked])


class _Nobody:
    """The companions of a victim that is not at hand."""

    async def _none(self, *_: object) -> Any:
        raise BadInput("there is no victim; give --config with it, or its features in the log's files")

    checkpoints = load = activations = activation_bits = _none
