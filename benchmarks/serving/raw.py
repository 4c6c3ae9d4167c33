"""Raw forward passes in a process of their own: ``python -m benchmarks.serving.raw HOME FAMILY``.

They take the network's rows in turn, as the servers get them: one batch again and again would stay in the cache.
Each line of the standard input names an engine, a number of rows and seconds; each line of the standard output
gives the number of images, and the wall and CPU time that they took.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.serving.engine import ENGINES, load


def main() -> None:
    """Runs engines in a loop."""
    home, family = Path(sys.argv[1]), sys.argv[2]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    engines = {name: load(home, family, name) for name in ENGINES}
    pool = np.load(home / "rows.npy", allow_pickle=False)
    sys.stdout.write("ready\n")
    for line in sys.stdin:
        engine, rows, seconds = json.loads(line)
        batches = np.split(pool, len(pool) // rows)
        predict = engines[engine]
        for x in batches[:3]:
            predict(x)
        passes, start, cpu = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - start < seconds:
            predict(batches[passes % len(batches)])
            passes += 1
        wall, cpu = time.perf_counter() - start, time.process_time() - cpu
        sys.stdout.write(json.dumps({"images": passes * rows, "wall": wall, "cpu": cpu}) + "\n")


if __name__ == "__main__":
    main()
