"""Defence stacks that administrators put in place of the configured ones: a view of the control log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from server.control.log import ControlLog, Event

Tables = list[dict[str, Any]]


class Stacks:
    """The stacks that replace the configured ones."""

    def __init__(self, log: ControlLog) -> None:
        """Knows no stack yet."""
        self._log = log
        self.reset({})

    def reset(self, saved: dict[str, Any]) -> None:
        """Takes its part of a snapshot."""
        self._stacks: dict[str, Tables] = saved.get("stacks", {})

    def save(self) -> dict[str, Any]:
        """Returns its part of a snapshot."""
        return {"stacks": self._stacks}

    def fold(self, event: Event) -> bool:
        """Applies an event."""
        match event["do"]:
            case "replace defenses":
                self._stacks[event["model"]] = event["defenses"]
            case "restore defenses":
                self._stacks.pop(event["model"], None)
            case _:
                return False
        return True

    def get(self, model: str) -> Tables | None:
        """Returns the stack that was put in place of a model's configured one, if any."""
        return self._stacks.get(model)

    async def replace(self, model: str, stack: Tables | None, by: str) -> None:
        """Puts a stack in place of a model's configured one; None restores that."""

        async def event() -> Event:
            if stack is None:
                return {"do": "restore defenses", "model": model}
            return {"do": "replace defenses", "model": model, "defenses": stack}

        await self._log.write(event, by)
