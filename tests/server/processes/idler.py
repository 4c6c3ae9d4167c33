"""A worker that serves nobody, for the tests of its parent: ``python idler.py FOLDER COUNT``."""

import os
import signal
import sys
import time
from pathlib import Path

from server.processes.supervisor import preload, supervise


def work(folder, number, up):
    """Writes down which process it is and which signals it got, and ends at the second."""
    notes = Path(folder) / f"{number}-{os.getpid()}"
    got = []

    def note(signum, frame):
        got.append(signal.Signals(signum).name)
        notes.write_text(" ".join(got))

    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, note)
    if (Path(folder) / "broken").exists():
        with (Path(folder) / "tries").open("a") as tries:
            created = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
            now = time.clock_gettime(time.CLOCK_BOOTTIME)
            tries.write(f"{created / os.sysconf('SC_CLK_TCK')} {now}\n")
        raise ValueError("broken")
    up[number] = 1
    notes.touch()
    while not got or ((Path(folder) / "stubborn").exists() and len(got) < 2):
        time.sleep(0.01)


if __name__ == "__main__":
    preload("noted")  # from the tests' folder
    supervise(int(sys.argv[2]), work, sys.argv[1])
