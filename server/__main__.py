"""``python -m server``: the same as ``mlaas-range serve``."""

from cli.command import run

if __name__ == "__main__":
    run("server.command:main")
