"""The state folder, and folders in it that are made once even if several processes need them."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from filelock import AcquireReturnProxy, FileLock, Timeout

log = logging.getLogger(__name__)


def state_folder(given: Path | None = None) -> Path:
    """Returns the folder of a party's state: the given one, MLAAS_STATE, or ``./state``."""
    return given or Path(os.environ.get("MLAAS_STATE") or "state")


def once(folder: Path, make: Callable[[Path], object], *, wait: bool = True) -> Path:
    """Returns a folder, which is made and filled if it does not exist; it is never left incomplete.

    If several processes need the folder, one fills it and the others wait. The lock is the kernel's (``flock``),
    so it is released however its process ends, and a waiting process takes over.

    Args:
        folder: The folder.
        make: Fills the empty folder passed to it; runs again after an interruption.
        wait: Whether to wait for another process that is making the folder; if not, it may not be there yet.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        held = _held(lock, folder, wait)
    except Timeout:
        return folder
    with held:
        if not folder.exists():
            _fill(folder, make)
        # The lock file may go only now: until the folder exists, other processes may be waiting for it.
        Path(lock.lock_file).unlink(missing_ok=True)
    return folder


def _held(lock: FileLock, folder: Path, wait: bool) -> AcquireReturnProxy[FileLock]:
    try:
        return lock.acquire(blocking=False)
    except Timeout:
        if not wait:
            raise
        log.info("another process is making %s; waiting for it", folder)
        return lock.acquire()


def _fill(folder: Path, make: Callable[[Path], object]) -> None:
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed process
    partial.mkdir()
    try:
        make(partial)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
