"""``python -m attacker``: the same as ``mlaas-range attack``."""

from cli.command import run

if __name__ == "__main__":
    run("attacker.command:main")
