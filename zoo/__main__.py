"""``python -m zoo COMMAND``: the same as ``mlaas-range train``."""

from cli.command import run
from cli.train import main

if __name__ == "__main__":
    run(main)
