"""Models that wait for an administrator, since the defences put in place cannot be bound with these settings."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from wire import BadInput

log = logging.getLogger(__name__)


def log_withdrawn(model: str, error: BadInput) -> None:
    """Logs that a model waits for an administrator."""
    log.error("%s: %s", withdrawn([model]), error)


def withdrawn(models: Sequence[str]) -> str:
    """Says which models wait, and what helps."""
    return (
        f"withdrawn, since defences that an administrator put in place cannot be used with these settings: "
        f"{', '.join(models)}; DELETE /admin/models/MODEL/defenses restores the configured ones"
    )
