"""Every rival in an environment of its own, with the same ONNX Runtime as ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from wire import BadInput

RIVALS: dict[str, tuple[str, ...]] = {
    "fastapi": ("fastapi==0.165.0", "uvicorn[standard]==0.54.0"),
    "litserve": ("litserve==0.2.19",),
    "mosec": ("mosec==0.9.8",),
    "mlserver": ("mlserver==1.7.1",),
    "kserve": ("kserve==0.21.0",),
    "triton": ("nvidia-pytriton==0.7.0",),
    "bentoml": ("bentoml==1.4.39",),
    "ray": ("ray[serve]==2.60.0",),
    "bare": ("uvloop==0.23.0", "numpy"),
}
"""The packages of each rival's environment, beside ONNX Runtime."""

_DONE = "installed.txt"


def python(rival: str, cache: Path) -> Path | None:
    """Returns a rival's interpreter, or None if the rival is not installed as required."""
    return python_of(rival, _wanted(rival), cache)


def python_of(name: str, wanted: str, cache: Path) -> Path | None:
    """Returns an environment's interpreter, or None if it does not hold what is wanted, one requirement a line."""
    home = _home(name, cache)
    found = (home / _DONE).exists() and (home / _DONE).read_text() == wanted
    return home / "bin" / "python" if found else None


def install(cache: Path) -> None:
    """Installs every rival that is missing, in a folder that outlasts a run.

    Raises:
        BadInput: pip failed for some; the others are installed.
    """
    failed = [rival for rival in RIVALS if python(rival, cache) is None and not made(rival, _wanted(rival), cache)]
    if failed:
        raise BadInput(f"not installed: {', '.join(failed)}; pip's messages are above")


def made(name: str, wanted: str, cache: Path, flags: Sequence[str] = ()) -> bool:
    """Makes an environment anew, and returns whether pip could install what is wanted, with further flags."""
    home = _home(name, cache)
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *flags, *wanted.splitlines()]
    if subprocess.run(pip).returncode:
        return False
    (home / _DONE).write_text(wanted)
    return True


def _home(rival: str, cache: Path) -> Path:
    return cache / "rivals" / rival


def _wanted(rival: str) -> str:
    return "\n".join([f"onnxruntime=={version('onnxruntime')}", *RIVALS[rival]])
