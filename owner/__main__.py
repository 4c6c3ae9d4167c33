"""``python -m owner``: the same as ``mlaas-range prove``."""

from cli.command import run

if __name__ == "__main__":
    run("owner.command:main")
