"""Accounts, and the groups of linked ones: what is remembered of them, and who is accused of what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from defenses.detectors.detector import Alarm
from defenses.monitoring.embedding import SIZE
from defenses.monitoring.links import PAYER, Queue, Shares

_DAY = 86_400
_GROUPS = 2000  # groups that are remembered, the latest ones
_BESIDE = 200  # bytes of an account, and of its place in a group


@dataclass
class Account:
    """The state of one account.

    Attributes:
        rows: Number of rows that it sent.
        session: When it began to ask, after its last pause.
        last: When it asked last.
    """

    rows: int = 0
    session: float = 0.0
    last: float = -math.inf


@dataclass
class Group:
    """The state of one group.

    Attributes:
        window: The rows of the present window.
        queue: The latest requests.
        last: When one of its accounts asked last.
        day: The day of its last row.
        today: Rows of that day.
        payers: The accounts of a payer; empty for other groups.
        statistic: The statistic of a payer's first alarm.
    """

    window: Shares = field(default_factory=Shares)
    queue: Queue = field(default_factory=Queue)
    last: float = 0.0
    day: int = 0
    today: int = 0
    payers: dict[str, int] = field(default_factory=dict)
    statistic: float | None = None


@dataclass
class State:
    """The state of all accounts of a model.

    Attributes:
        rows: Number of rows.
        accounts: The accounts by name.
        groups: The groups by name.
        alarms: The first alarm of each account that has one.
        latest: The account of the latest request.
    """

    rows: int = 0
    accounts: dict[str, Account] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    alarms: dict[str, Alarm] = field(default_factory=dict)
    latest: str = ""

    @property
    def nbytes(self) -> int:
        """Memory of the state, in bytes."""
        shares = sum(len(group.window.sums) for group in self.groups.values())
        return _BESIDE * (len(self.accounts) + len(self.groups)) + (8 * SIZE + _BESIDE) * shares

    def arrive(self, name: str, at: float, rows: int, pause: float) -> bool:
        """Notes rows of an account, and a session that begins after a pause; returns whether a request begins."""
        account = self.accounts.setdefault(name, Account())
        begins = (self.latest, account.last) != (name, at)
        if at - account.last > pause:
            account.session = at
        account.last, self.latest = at, name
        account.rows += rows
        self.rows += rows
        return begins

    def group(self, link: str, name: str, at: float) -> Group:
        """Returns a group in which an account asks; where there are too many, the oldest ones are forgotten."""
        if link not in self.groups:
            if len(self.groups) >= _GROUPS:
                oldest = sorted(self.groups, key=lambda each: (self.groups[each].last, each))
                for old in oldest[: _GROUPS // 10]:
                    del self.groups[old]
            self.groups[link] = Group()
        group = self.groups[link]
        group.last = at
        if link.startswith(PAYER):
            group.payers[name] = 1
        return group

    def bill(self, group: Group, name: str, rows: int, quota: int) -> None:
        """Counts the rows of a payer; ``quota`` is how many it may send per day, 0 for any number."""
        account, day = self.accounts[name], int(group.last // _DAY)
        if day != group.day:
            group.day, group.today = day, 0
        group.today += rows
        if quota and group.today > quota and group.statistic is None:
            self.accuse(group, [], float(group.today), name, account.rows - (group.today - quota) + 1)
        if group.statistic is not None and name not in self.alarms:
            self.alarms[name] = Alarm(account.rows - rows + 1, group.statistic)

    def accuse(self, group: Group, guilty: Sequence[str], statistic: float, sender: str, row: int) -> None:
        """Raises alarms of accounts of a group, and of all accounts of its payer.

        Args:
            group: The group.
            guilty: The accounts that take part.
            statistic: The statistic.
            sender: The account that sent the last row.
            row: Which of its rows that is.
        """
        if group.payers:
            group.statistic = statistic if group.statistic is None else group.statistic
            guilty = [*guilty, *group.payers]
        for name in guilty:
            if name not in self.alarms and name in self.accounts:
                self.alarms[name] = Alarm(row if name == sender else self.accounts[name].rows, statistic)

    def forget(self, name: str) -> None:
        """Clears an account's evidence and alarm, and what its payer's alarm says of other accounts."""
        self.alarms.pop(name, None)
        self.accounts.pop(name, None)
        for group in self.groups.values():
            group.window.drop(name)
            if group.payers.pop(name, None) is not None:
                group.statistic = None
