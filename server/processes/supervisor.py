"""Several processes that serve at one port, and a parent that replaces dead ones.

Workers are forked from multiprocessing's fork server, which has imported what a worker needs: a replacement does
not wait for torch. The fork server holds no model, no connection and no lock.

uvicorn's own supervisor starts only its own kind of server, which closes without a drain, and does not forward a
second signal.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, MutableSequence
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess
from types import FrameType
from typing import Any

from cli.command import run
from server.http import telemetry

log = logging.getLogger(__name__)

Work = Callable[..., None]
"""Serves, given its arguments, its worker's number, and an array with a place for
each worker, where it sets its own to 1 when it answers."""

PAUSE = 1.0  # seconds before the replacement of a worker that died before it answered
_TRIES = 20  # to reach the fork server, within a pause

_context = multiprocessing.get_context("forkserver")  # a fork of this process would copy locks
_HELD_BACK = {signal.SIGTERM}  # from the fork server: a signal to all processes must not end that one first


def preload(*modules: str) -> None:
    """Names the modules that the fork server imports, once, when the first process starts."""
    _context.set_forkserver_preload([*modules])


def run_once(work: Callable[..., None], *arguments: Any) -> None:
    """Runs a function in a process of its own, to free its memory; if that fails, this process ends too."""
    process = _context.Process(target=_once, args=(work, arguments))
    _start(process)
    process.join()
    if process.exitcode:
        sys.exit(process.exitcode)


def supervise(count: int, work: Work, *arguments: Any, release: Callable[[], None] = lambda: None) -> None:
    """Runs workers until this process gets a signal to end, and forwards signals to them.

    Args:
        count: How many.
        work: What each does, in a process of its own.
        arguments: What it is given.
        release: Is called when no more workers will be started, and lets go of what they alone should hold then.
    """
    up: MutableSequence[int] = _context.RawArray("b", count)
    workers: dict[int, ForkServerProcess] = {}
    ending = starting = False

    def end(signum: int, frame: FrameType | None) -> None:
        nonlocal ending
        ending = True
        for worker in workers.values():
            if worker.is_alive():
                os.kill(_id(worker), signum)
        if not starting:
            release()

    def start(number: int) -> None:
        nonlocal starting
        starting = True
        if not ending:
            worker = _context.Process(target=_worker, args=(work, arguments, number, up), daemon=True)
            _start(worker)
            workers[number] = worker
            if ending:  # meanwhile
                worker.terminate()
        starting = False
        if ending:
            release()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in range(count):
            start(number)
        while workers:
            wait([worker.sentinel for worker in workers.values()])
            for number, worker in [*workers.items()]:
                if worker.is_alive():
                    continue
                served, up[number] = up[number], 0
                telemetry.ended(_id(worker))
                if ending:
                    del workers[number]
                    continue
                log.error("worker %d ended with %d and is replaced", number, worker.exitcode)
                if not served:
                    time.sleep(PAUSE)
                start(number)
                worker.close()  # one that lives on without the fork server ends by that
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(process: ForkServerProcess) -> None:
    """Starts a process; the fork server, if it starts too, inherits the signals that are held back."""
    resource_tracker.ensure_running()  # the fork server's start would start it too, and that lets SIGTERM in again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        for left in reversed(range(_TRIES)):
            try:
                process.start()
                return
            except (EOFError, ConnectionError):  # the fork server is dying; once it is dead, another is started
                if not left:
                    raise
                time.sleep(PAUSE / _TRIES)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _once(work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
    run(lambda _: work(*arguments))


def _id(process: ForkServerProcess) -> int:
    assert process.pid is not None  # it was started
    return process.pid


def _worker(work: Work, arguments: tuple[Any, ...], number: int, up: MutableSequence[int]) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)
    os.setpgrp()  # Ctrl-C at a terminal goes to the parent alone, which forwards it
    threading.Thread(target=_outlive, daemon=True).start()
    run(lambda _: work(*arguments, number, up))


def _outlive() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)  # the parent was killed, and nobody else would end this worker
