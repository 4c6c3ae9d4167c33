"""Tells somebody of an alarm: a warning in the log, a metric, and a webhook if one is configured."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from defenses.reactions.alarm import StandingAlarm

log = logging.getLogger(__name__)

_TRIES = 3
_SECONDS = 5.0  # for which a webhook is waited for


class Notices:
    """Tells of the alarms that this worker raises; each alarm is raised by one worker.

    No answer waits for the webhook, and a webhook that fails is logged.
    """

    def __init__(self, count: Callable[[str, str, str], None], webhook: str | None) -> None:
        """Takes whom to tell.

        Args:
            count: Counts an alarm by detector, model and reaction.
            webhook: URL to which alarms are posted, as ``GET /admin/alarms`` lists them; None for none.
        """
        self._count, self._webhook = count, webhook
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, alarm: StandingAlarm) -> None:
        """Tells of an alarm."""
        log.warning(
            "alarm: account %s, model %s, detector %s: row %d, statistic %g; reaction: %s",
            *(alarm.account, alarm.model, alarm.detector, alarm.row, alarm.statistic, alarm.reaction),
        )
        self._count(alarm.detector, alarm.model, alarm.reaction)
        if self._webhook is not None:
            task = asyncio.get_running_loop().create_task(self._post(self._webhook, alarm))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Waits for what is being posted."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _post(self, url: str, alarm: StandingAlarm) -> None:
        import httpx  # only where there is a webhook

        told = {name: value for name, value in alarm._asdict().items() if name not in ("digits", "log")}
        why: object = None
        async with httpx.AsyncClient(timeout=_SECONDS) as client:
            for attempt in range(_TRIES):
                await asyncio.sleep(attempt)
                try:
                    reply = await client.post(url, json=told)
                except httpx.HTTPError as error:
                    why = error
                    continue
                if reply.is_success:
                    return
                why = f"HTTP {reply.status_code}"
        log.error("the alarm of account %s could not be posted: %s", alarm.account, why)
