"""What the tests of attacker_command share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

QUICK = ["--family", "mlp", "--epochs", "2"]


def result(tmp_path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((tmp_path / "out" / "result.json").read_text())
    return told
