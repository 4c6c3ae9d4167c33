"""Starts processes, each with a log of its own, and ends them whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import psutil

from wire import Unreachable

_PATIENCE = 15.0  # seconds that a process may take to end by itself


class Failed(Unreachable):
    """A process failed; the message ends with the last line of its log."""


def free_port() -> int:
    """Returns an unused port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def process_tree(pid: int) -> list[psutil.Process]:
    """Returns a process and its descendants; nothing if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def end_tree(pid: int) -> None:
    """Kills a process and its descendants."""
    for member in process_tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()


def without_settings() -> dict[str, str]:
    """Returns this process's environment without the variables of the parties' commands."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MLAAS_")}


class Processes:
    """Starts processes, each with a log; ends those that still run when it is left or interrupted.

    Attributes:
        folder: The folder of this run; ``logs`` in it holds a log per process.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Takes the folder of this run; without one, a temporary folder is made and removed at the end."""
        self._closing = contextlib.ExitStack()
        if folder is None:
            folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="mlaas-")))
        self.folder = folder.resolve()
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        self._running: dict[subprocess.Popen[bytes], bool] = {}
        self._lock = threading.RLock()
        self._closed = False
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # An exception that a signal raises can get lost in whatever runs just then, so the handler ends all.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._handlers[number] = signal.signal(number, self._interrupted)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._close()

    def start(
        self,
        name: str,
        command: Sequence[str],
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
        *,
        gently: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Starts a process.

        Args:
            name: The name of its log.
            command: The command line.
            folder: Where it runs; by default the folder of this run.
            environment: Variables to set, beside those of this process that do not begin with ``MLAAS_``.
            gently: Whether it is asked to end, by SIGTERM, before it is killed.
        """
        with self.log(name).open("wb") as log, self._lock:
            if self._closed:
                raise Failed(f"{name} was not started: the run has ended")
            process = subprocess.Popen(
                command,
                cwd=folder or self.folder,
                env={**without_settings(), **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # the terminal's Ctrl-C is for us: we end the others
            )
            self._running[process] = gently
        return process

    @contextlib.contextmanager
    def running(
        self, name: str, command: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] = {}
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Starts a process for as long as the context lasts; the arguments are those of :meth:`start`."""
        process = self.start(name, command, folder, environment)
        try:
            yield process
        finally:
            self.end(process)

    def finish(
        self, name: str, command: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] = {}
    ) -> str:
        """Runs a process to its end and returns what it wrote; the arguments are those of :meth:`start`.

        Raises:
            Failed: Its exit status is not 0.
        """
        process = self.start(name, command, folder, environment, gently=False)
        status = process.wait()
        self._running.pop(process, None)
        if status:
            raise self.failed(name)
        return self.log(name).read_text(errors="replace")

    def end(self, *processes: subprocess.Popen[bytes]) -> None:
        """Ends processes with all their descendants: those started gently by SIGTERM, then all by SIGKILL."""
        everyone = [member for process in processes for member in process_tree(process.pid)]
        gentle = [process for process in processes if self._running.get(process, True)]
        for process in gentle:
            process.terminate()
        deadline = time.monotonic() + _PATIENCE
        for process in gentle:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for member in everyone:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)  # no longer: when a signal interrupts another wait for it, this one cannot succeed
            self._running.pop(process, None)

    def wait_until_listening(
        self, name: str, process: subprocess.Popen[bytes], port: int, *, patience: float = 120.0
    ) -> None:
        """Waits until a process accepts connections on a port of the loopback interface.

        Raises:
            Failed: It ended, or ``patience`` seconds went by.
        """
        deadline = time.monotonic() + patience
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise self.failed(name)
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            time.sleep(0.1)

    def failed(self, name: str) -> Failed:
        """Returns the error that names a process with the last line of its log."""
        lines = self.log(name).read_text(errors="replace").replace("\r", "\n").strip().splitlines()
        return Failed(f"{name} failed: {lines[-1] if lines else 'it wrote nothing'} (see {self.log(name)})")

    def log(self, name: str) -> Path:
        """Returns the path of a process's log."""
        return self.folder / "logs" / f"{name.replace(' ', '-')}.log"

    def _interrupted(self, signum: int, frame: object) -> None:
        self._close()
        os._exit(130)

    def _close(self) -> None:
        with self._lock:
            self._closed = True
            self.end(*self._running)
            self._closing.close()
