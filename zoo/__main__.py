"""``python -m zoo``: the same as ``mlaas-range train``."""

from cli.command import run

if __name__ == "__main__":
    run("cli.train:main")
