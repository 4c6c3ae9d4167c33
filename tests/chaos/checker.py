"""Checks that ledgers, keys, stacks, marks, logs and alarms agree with some order of a history.

After Jepsen (Kingsbury): a request that was answered took effect once, between its sending and its answer; one
without an answer took effect once or not at all, at any time after its sending. A check that passes names an order
in which this is so: an assignment of the unanswered requests that explains every reading, or the order of the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from history import NEVER, Act, History, Outcome, Request

from defenses import Prada
from defenses.monitoring.records import Entry
from wire import Array

EXPECTED = {0, 200, 401, 403, 503}  # 401 after a rotation, 403 beyond the quota


@dataclass(frozen=True)
class Rules:
    """What the server promises.

    Attributes:
        quota: Rows of an account at each model, in all.
        per_row: Price of a row, in micro-cents.
        per_request: Price of a request, in micro-cents.
        watched: The model whose rows are monitored and marked.
        detector: The monitor's detector.
        predict: The victim's labels of rows.
    """

    quota: int
    per_row: int
    per_request: int
    watched: str
    detector: Prada
    predict: Callable[[Array], Array]


def check(history: History, outcome: Outcome, rules: Rules) -> list[str]:
    """Returns the discrepancies, one line each."""
    found = [
        f"{_name(request)} was answered {request.status}"
        for request in history.requests
        if request.status not in EXPECTED
    ]
    found += ledgers(history, outcome, rules)
    found += keys(history)
    found += stacks(history)
    for account in sorted({request.account for request in history.requests}):
        mine = [r for r in history.requests if (r.account, r.model) == (account, rules.watched)]
        found += marks(account, mine, outcome, rules)
        entries = outcome.entries.get(account, ())
        found += logged(account, mine, entries, rules)
        clears = [act for act in history.acts if (act.do, act.of) == ("clear", account)]
        found += cleared(account, mine, entries, clears, outcome)
        found += alarms(account, mine, entries, outcome, rules)
    found += [
        f"the alarm of {account} at row {row} stands, but was not streamed"
        for account, row in sorted(outcome.standing - history.streamed)
    ]
    return found


def ledgers(history: History, outcome: Outcome, rules: Rules) -> Iterator[str]:
    """Checks that answers are billed once, unanswered requests at most once, and that no quota is exceeded."""
    by_place: dict[tuple[str, str], list[Request]] = {}
    for request in history.requests:
        by_place.setdefault((request.account, request.model), []).append(request)
    for place, requests in by_place.items():
        rows, count, micro_cents = outcome.ledgers.get(place, (0, 0, 0))
        name = "{} at {}".format(*place)
        if not explained(rows, count, requests, NEVER, NEVER):
            must = [r for r in requests if r.acknowledged]
            yield (
                f"{name} is billed {rows} rows in {count} requests; {sum(len(r.rows) for r in must)} rows in "
                f"{len(must)} were answered, {sorted(len(r.rows) for r in requests if r.unsure)} perhaps"
            )
        if micro_cents != rows * rules.per_row + count * rules.per_request:
            yield f"{name} owes {micro_cents} micro-cents for {rows} rows in {count} requests"
        if rows > rules.quota:
            yield f"{name} is billed {rows} rows, but its quota is {rules.quota}"
        for seen in history.readings:
            if (seen.account, seen.model) == place and not explained(
                seen.rows, seen.requests, requests, seen.sent, seen.answered
            ):
                yield f"{name} read {seen.rows} rows in {seen.requests} requests, which no order explains"
        for request in requests:
            if request.left is None:
                continue
            level = rules.quota - request.left
            if not explained(level, None, requests, request.sent, request.answered, request):
                yield f"{_name(request)} was told that {request.left} rows are left, which no order explains"
            if request.status == 403 and len(request.rows) <= request.left:
                yield f"{_name(request)} was refused with {request.left} rows left"


def explained(
    rows: int,
    count: int | None,
    requests: Iterable[Request],
    sent: float,
    answered: float,
    own: Request | None = None,
) -> bool:
    """Returns whether a ledger's level, read between two times, is a sum over some requests.

    Those answered before must be among them, and those sent later must not. ``own`` is the request whose answer
    showed the level.
    """
    totals = {(0, 0)}
    for request in requests:
        n = len(request.rows)
        if request.acknowledged and (request.answered < sent or request is own):
            totals = {(total + n, number + 1) for total, number in totals}
        elif request.possible and request.sent < answered:
            totals |= {(total + n, number + 1) for total, number in totals}
    return any(total == rows and count in (None, number) for total, number in totals)


def keys(history: History) -> Iterator[str]:
    """Checks that a key is refused from the acknowledged rotation on, and not before one was sent."""
    made = {act.what: act for act in history.acts if act.do in ("rotate", "add key") and act.acknowledged}
    for request in history.requests:
        own = made.get(request.key)
        born = own.answered if own else -NEVER
        rotations = [
            act
            for act in history.acts
            if (act.do, act.of) == ("rotate", request.account) and act is not own and act.answered > born
        ]
        over = [act for act in rotations if act.sent >= born and act.answered < request.sent]
        if request.acknowledged and over:
            yield f"{_name(request)} was answered with a key that had been rotated away"
        if request.status == 401 and not any(act.sent < request.answered for act in rotations):
            yield f"{_name(request)} was refused with a key that nobody had rotated away"


def stacks(history: History) -> Iterator[str]:
    """Checks that every answer comes from a stack that was in force at some time while it was asked."""
    replaced = [act for act in history.acts if act.do == "replace"]
    for request in history.requests:
        acts = [act for act in replaced if act.of == request.model]
        if not request.acknowledged or not acts:
            continue
        before = [act for act in acts if act.answered < request.sent]
        last = max((act.sent for act in before), default=-NEVER)  # replacements follow one another
        possible = {
            act.what for act in acts if act.sent < request.answered and (act.sent >= last or not act.acknowledged)
        }
        if before and request.shown not in possible:
            yield f"{_name(request)} shows {request.shown} probabilities; the stacks in force, {sorted(possible)}"


def marks(account: str, requests: Sequence[Request], outcome: Outcome, rules: Rules) -> Iterator[str]:
    """Checks that the register holds the false labels that the account was told, and no others of their rows."""
    registered = {(mark.row, mark.told_label): mark for mark in outcome.marks.get(account, ())}
    if len(registered) != len(outcome.marks.get(account, ())):
        yield f"{account} has a mark twice"
    marked = {row for row, _ in registered}
    strangers = set(marked)
    for request in requests:
        rows = [row.tobytes() for row in request.rows]
        strangers.difference_update(rows)
        if not request.acknowledged:
            continue
        true = rules.predict(request.rows).tolist()
        for row, told, label in zip(rows, request.labels, true, strict=True):
            if told != label and (row, told) not in registered:
                yield f"{_name(request)}: {told} was told in place of {label}, but the mark is not registered"
            if told == label and row in marked:
                yield f"{_name(request)}: a mark is registered, but the row was told the victim's label {label}"
    if strangers:
        yield f"{account} has {len(strangers)} marks of rows that it never sent"


def logged(account: str, requests: Sequence[Request], entries: Sequence[Entry], rules: Rules) -> Iterator[str]:
    """Checks that the monitor's log has every answered request, in an order that its clients could have seen."""
    found, unknown = _places(requests, entries)
    if unknown:
        yield f"{account}: {unknown} entries of the log are no requests"
    for request in requests:
        times = len(found.get(request, ()))
        if request.acknowledged and not times:
            yield f"{_name(request)} was answered, but is not in the log"
        if times > 1 and request.id is None:
            yield f"{_name(request)} has no id, and is in the log {times} times"
        if times and not request.possible:
            yield f"{_name(request)} was refused, but is in the log"
    latest: Request | None = None
    for request in sorted(found, key=lambda each: found[each][0]):
        if latest is not None and request.answered < latest.sent:
            yield f"{_name(request)} stands in the log after {_name(latest)}, which was sent after its answer"
        latest = request if latest is None or request.sent > latest.sent else latest
    for i, entry in enumerate(entries):
        if entry.labels.tolist() != rules.predict(entry.rows).tolist():
            yield f"{account}: entry {i} of the log does not hold the victim's labels"


def cleared(
    account: str, requests: Sequence[Request], entries: Sequence[Entry], clears: Sequence[Act], outcome: Outcome
) -> Iterator[str]:
    """Checks that alarms were cleared as often as administrators did, and entries know of each clear in time."""
    happened = sum(event["do"] == "clear alarm" for event in _events(account, outcome))
    sure = sum(act.acknowledged for act in clears)
    if not sure <= happened <= len(clears):
        yield f"{account}: {sure} to {len(clears)} alarms were cleared; the control log has {happened} clears"
    for request, at in _places(requests, entries)[0].items():
        least = sum(act.answered < request.sent for act in clears)
        most = sum(act.sent < request.answered for act in clears)
        if not least <= entries[at[0]].clears <= most:
            yield f"{_name(request)} was logged after {entries[at[0]].clears} clears; expected {least} to {most}"


class Raised(NamedTuple):
    """An alarm: after how many clears it was raised, at which row, and in which entry of the log."""

    clears: int
    row: int
    statistic: float
    entry: int


def replayed(entries: Sequence[Entry], detector: Prada) -> list[Raised]:
    """Returns the alarms that the detector raises on a log; entries of a repeated request count once."""
    found: list[Raised] = []
    state, clears, seen = detector.begin(), 0, set()
    for i, entry in enumerate(entries):
        if entry.clears > clears:
            state, clears = detector.begin(), entry.clears
        if entry.idempotency_key is not None and entry.idempotency_key in seen:
            continue
        seen.add(entry.idempotency_key)
        before, state = state.alarm, detector.observe(state, entry.rows, entry.labels)
        if before is None and state.alarm is not None:
            found.append(Raised(clears, *state.alarm, i))
    return found


def alarms(
    account: str, requests: Sequence[Request], entries: Sequence[Entry], outcome: Outcome, rules: Rules
) -> Iterator[str]:
    """Checks the raised alarms against the detector's on the log: none is lost, invented, doubled or elsewhere."""
    expected = {alarm.clears: alarm for alarm in replayed(entries, rules.detector)}
    clears, standing, raised = 0, None, set()
    for event in _events(account, outcome):
        if event["do"] == "clear alarm":
            if standing is None:
                yield f"{account}: an alarm was cleared that did not stand"
            clears, standing = clears + 1, None
        elif event["do"] == "raise alarm":
            alarm = expected.get(clears)
            if standing is not None:
                yield f"{account}: an alarm was raised twice"
            if alarm is None or alarm.row != event["row"] or not np.isclose(alarm.statistic, event["statistic"]):
                yield (
                    f"{account}: an alarm at row {event['row']} with {event['statistic']:.6f}; the log's rows "
                    f"raise {'none' if alarm is None else f'one at row {alarm.row} with {alarm.statistic:.6f}'}"
                )
            standing = event["row"]
            raised.add(clears)
    shown = {row for name, row in outcome.standing if name == account}
    if shown != ({standing} if standing is not None else set()):
        yield f"{account}: alarms at rows {sorted(shown)} are listed; by the control log, {standing} stands"
    for request, at in _places(requests, entries)[0].items():
        alarm = expected.get(entries[at[0]].clears)
        if alarm and request.acknowledged and at[0] >= alarm.entry and alarm.clears not in raised:
            yield f"{_name(request)} was answered after row {alarm.row}, whose alarm is lost"


def _places(requests: Sequence[Request], entries: Sequence[Entry]) -> tuple[dict[Request, list[int]], int]:
    """Returns the entries of each request, and the number of entries that are no request's."""
    by_rows = {request.rows.tobytes(): request for request in requests}
    found: dict[Request, list[int]] = {}
    unknown = 0
    for i, entry in enumerate(entries):
        request = by_rows.get(entry.rows.tobytes())
        if request is None:
            unknown += 1
        else:
            found.setdefault(request, []).append(i)
    return found, unknown


def _events(account: str, outcome: Outcome) -> list[dict[str, object]]:
    return [event for event in outcome.events if event.get("account") == account]


def _name(request: Request) -> str:
    return (
        f"{request.account}'s request {request.id or 'without id'} of {len(request.rows)} rows at {request.model}"
    )


def counted(history: History) -> Counter[str]:
    """Returns how many requests were answered, and how many were not."""
    return Counter(
        "acknowledged" if request.acknowledged else "unacknowledged" if request.unsure else "refused"
        for request in history.requests
    )
