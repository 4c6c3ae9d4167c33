"""The checker accepts what a sound server does, and finds what an unsound one would do."""

from dataclasses import replace

import numpy as np
import pytest
from checker import Rules, check, replayed
from clients import Walk
from history import NEVER, Act, History, Outcome, Reading, Request

from defenses import Prada
from defenses.monitoring.records import entry, read_entry
from defenses.watermarks.ledger import Mark, encode_rows

CLASSES = 5
DETECTOR = Prada(0.95, enough=20)


def predict(rows):
    return rows.reshape(len(rows), -1).astype(np.int64).sum(axis=1) % CLASSES


RULES = Rules(400, 10, 1000, "watched", DETECTOR, predict)


class Sound:
    """What a sound server does: it answers one account's ten requests in order; one answer is lost."""

    def __init__(self):
        walk, self.history, self.outcome = Walk(0), History(), Outcome()
        self.requests, entries, marks = self.history.requests, [], []
        for i in range(10):
            request = Request("alice", "watched", walk(9 + i), f"r{i}" if i % 2 else None, "first", float(i))
            self.requests.append(request)
            labels = predict(request.rows)
            entries.append(read_entry(entry(request.rows, labels, request.id)))
            if i == 4:  # logged and billed, but its answer was lost
                request.unsure = True
                continue
            request.answered, request.status, request.shown = i + 0.5, 200, CLASSES
            form, row = encode_rows(request.rows[:1])
            told = (int(labels[0]) + 1) % CLASSES
            marks.append(Mark(form, row[0], int(labels[0]), told, 0.0))
            request.labels = [told, *labels[1:].tolist()]
            request.left = RULES.quota - self.rows(i + 1)
        self.outcome.ledgers["alice", "watched"] = self.rows(10), 10, self.rows(10) * 10 + 10_000
        self.outcome.entries["alice"] = entries
        self.outcome.marks["alice"] = marks
        self.history.readings.append(
            Reading("alice", "watched", 2.6, 2.8, self.rows(3), 3, self.rows(3) * 10 + 3000)
        )
        (self.alarm,) = replayed(entries, DETECTOR)
        self.outcome.events = [
            {"do": "raise alarm", "account": "alice", "row": self.alarm.row, "statistic": self.alarm.statistic}
        ]
        self.outcome.standing = {("alice", self.alarm.row)}
        self.history.streamed = {("alice", self.alarm.row)}

    def rows(self, requests):
        return sum(len(request.rows) for request in self.requests[:requests])

    def bill(self, rows, requests):
        was = self.outcome.ledgers["alice", "watched"]
        more = rows, requests, rows * RULES.per_row + requests * RULES.per_request
        self.outcome.ledgers["alice", "watched"] = tuple(map(sum, zip(was, more, strict=True)))

    def check(self):
        return check(self.history, self.outcome, RULES)


@pytest.fixture
def sound():
    return Sound()


def test_a_sound_server_is_accepted(sound):
    assert sound.check() == []
    sound.bill(-len(sound.requests[4].rows), -1)  # the lost answer need not have been billed
    for request in sound.requests[5:]:
        request.left += len(sound.requests[4].rows)
    assert sound.check() == []


def lost_charge(sound):
    sound.bill(-len(sound.requests[7].rows), -1)
    return "rows in 9 requests"


def doubled_charge(sound):
    sound.bill(len(sound.requests[7].rows), 1)
    return "rows in 11 requests"


def charge_of_a_refusal(sound):
    refused = Request("alice", "watched", Walk(1)(3), None, "first", 20.0, 20.5, 403, left=0)
    sound.requests.append(refused)
    sound.bill(3, 1)
    return "rows in 11 requests"


def wrong_price(sound):
    rows, requests, micro_cents = sound.outcome.ledgers["alice", "watched"]
    sound.outcome.ledgers["alice", "watched"] = rows, requests, micro_cents + 1
    return "micro-cents for"


def ledger_that_forgets_for_a_while(sound):
    sound.history.readings.append(replace(sound.history.readings[0], sent=5.6, answered=5.8))
    return "read 30 rows in 3 requests, which no order explains"


def limit_that_forgets(sound):
    sound.requests[8].left += len(sound.requests[7].rows)
    return "rows are left, which no order explains"


def quota_exceeded(sound):
    sound.requests.append(
        Request("alice", "watched", Walk(1)(399), None, "first", 20.0, 20.5, 200, labels=[0] * 399, shown=CLASSES)
    )
    sound.bill(399, 1)
    return "but its quota is 400"


def refused_within_the_quota(sound):
    left = RULES.quota - sound.rows(10)
    sound.requests.append(Request("alice", "watched", Walk(1)(1), None, "first", 20.0, 20.5, 403, left=left))
    return f"was refused with {left} rows left"


def lost_alarm(sound):
    sound.outcome.events, sound.outcome.standing = [], set()
    return f"row {sound.alarm.row}, whose alarm is lost"


def alarm_that_nobody_caused(sound):
    sound.outcome.events[0]["row"] += 1
    return f"an alarm at row {sound.alarm.row + 1}"


def alarm_raised_twice(sound):
    sound.outcome.events *= 2
    return "an alarm was raised twice"


def alarm_not_streamed(sound):
    sound.history.streamed.clear()
    return "stands, but was not streamed"


def lost_clear(sound):
    sound.history.acts.append(Act("clear", "alice", 20.0, 20.5))
    return "1 to 1 alarms were cleared; the control log has 0 clears"


def clear_that_a_worker_missed(sound):
    sound.history.acts.append(Act("clear", "alice", 8.6, 8.8))
    sound.outcome.events.append({"do": "clear alarm", "account": "alice"})
    sound.outcome.standing = set()
    return "was logged after 0 clears; expected 1 to 1"


def lost_rows(sound):
    del sound.outcome.entries["alice"][2]
    return "was answered, but is not in the log"


def rows_twice(sound):
    sound.outcome.entries["alice"].append(sound.outcome.entries["alice"][2])
    return "has no id, and is in the log 2 times"


def rows_out_of_order(sound):
    entries = sound.outcome.entries["alice"]
    entries[0], entries[1] = entries[1], entries[0]
    return "stands in the log after"


def lost_mark(sound):
    del sound.outcome.marks["alice"][3]
    return "but the mark is not registered"


def mark_that_was_not_told(sound):
    request = sound.requests[7]
    request.labels = predict(request.rows).tolist()
    return "a mark is registered, but the row was told the victim's label"


def mark_of_a_stranger(sound):
    stranger = bytes(64)
    sound.outcome.marks["alice"].append(replace(sound.outcome.marks["alice"][0], row=stranger))
    return "1 marks of rows that it never sent"


def rotated_key_that_still_works(sound):
    sound.history.acts.append(Act("rotate", "alice", 6.6, 6.8, "second"))
    return "was answered with a key that had been rotated away"


def key_refused_for_nothing(sound):
    sound.requests.append(Request("alice", "watched", Walk(1)(1), None, "first", 20.0, 20.5, 401))
    return "was refused with a key that nobody had rotated away"


def stack_that_was_replaced(sound):
    sound.history.acts += [Act("replace", "watched", 1.6, 1.7, CLASSES), Act("replace", "watched", 6.6, 6.8, 2)]
    return "shows 5 probabilities; the stacks in force, [2]"


def crash(sound):
    sound.requests.append(Request("alice", "watched", Walk(1)(1), None, "first", 20.0, NEVER, 500, unsure=True))
    return "was answered 500"


DOCTORED = [
    lost_charge,
    doubled_charge,
    charge_of_a_refusal,
    wrong_price,
    ledger_that_forgets_for_a_while,
    limit_that_forgets,
    quota_exceeded,
    refused_within_the_quota,
    lost_alarm,
    alarm_that_nobody_caused,
    alarm_raised_twice,
    alarm_not_streamed,
    lost_clear,
    clear_that_a_worker_missed,
    lost_rows,
    rows_twice,
    rows_out_of_order,
    lost_mark,
    mark_that_was_not_told,
    mark_of_a_stranger,
    rotated_key_that_still_works,
    key_refused_for_nothing,
    stack_that_was_replaced,
    crash,
]


@pytest.mark.parametrize("doctor", DOCTORED, ids=lambda doctor: doctor.__name__)
def test_an_unsound_one_is_found(sound, doctor):
    expected = doctor(sound)
    assert any(expected in each for each in sound.check()), sound.check()


def test_requests_at_the_same_time_may_take_effect_in_any_order(sound):
    both = sound.requests[8:]
    for request in both:
        request.sent, request.answered = 8.0, 9.5
    first, second = both
    first.left, second.left = RULES.quota - sound.rows(10), RULES.quota - sound.rows(8) - len(second.rows)
    entries = sound.outcome.entries["alice"]
    entries[8], entries[9] = entries[9], entries[8]
    assert sound.check() == []
