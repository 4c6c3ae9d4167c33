"""Writes the lock files of the images to deploy/locks, with the hashes that pip checks: ``make lock``.

uv resolves what pyproject.toml asks for, for all Pythons and platforms at once, with PyPI as the index. The images
install these files in order, without dependencies of their own accord:

- ``pytorch-cpu.txt``: PyTorch from its own index of CPU wheels, or ``pytorch-cuda.txt``: PyTorch with NVIDIA's
  libraries, from PyPI;
- ``core.txt``: what every party needs;
- ``server.txt``: what the server needs besides;
- ``language.txt``: what language models need besides both (the extra ``language``), for the server;
- ``private.txt``: what DP-SGD needs besides both (the extra ``private``); no image has it.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / "deploy" / "locks"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PYTORCH = ("torch", "torchvision")
CUDA = re.compile(r"nvidia-|cuda-|triton$")

Lock = dict[str, str]
"""Lines of pinned packages with their hashes, by the package's name; a package may have a line for each Python."""


def resolved(requirements: list[str]) -> Lock:
    """Returns the lock of requirements."""
    command = ["uv", "pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-header", "--no-annotate", "--quiet", "-"]
    done = subprocess.run(command, input="\n".join(requirements), stdout=subprocess.PIPE, text=True, check=True)
    return parsed(done.stdout)


def parsed(text: str) -> Lock:
    """Returns the lock in a file's text."""
    lock: Lock = {}
    for entry in re.findall(r"^\S.*(?:\n\s+.*)*\n", text, re.MULTILINE):
        name = entry.partition("==")[0]
        lock[name] = lock.get(name, "") + entry
    return lock


def on_cpu(torch: Lock) -> Lock:
    """Returns PyTorch's lock with the hashes of its CPU wheels, which only its own index has.

    torchvision also keeps PyPI's hashes: its wheels there run without CUDA too.
    """
    lock: Lock = {}
    for name, entry in torch.items():
        version = re.match(rf"{name}==([\d.]+)", entry)[1]  # type: ignore[index]
        try:
            with urlopen(f"{CPU_INDEX}/{name}/", timeout=30) as page:
                links = page.read().decode()
        except OSError as error:
            raise SystemExit(f"{CPU_INDEX} cannot be reached ({error}): pytorch-cpu.txt is as it was") from None
        wheels = rf'{name}-{re.escape(version)}%2Bcpu-cp31[12]-cp31[12]-manylinux[^"#]*#sha256=([0-9a-f]{{64}})'
        hashes = sorted(set(re.findall(wheels, links)))
        if not hashes:
            raise SystemExit(f"{CPU_INDEX} has no {name} {version}")
        if name == "torchvision":
            hashes += re.findall(r"sha256:([0-9a-f]{64})", entry)
        pin = f"{name}=={version}" + "+cpu" * (name == "torch")
        lock[name] = " \\\n    ".join([pin, *(f"--hash=sha256:{sha}" for sha in hashes)]) + "\n"
    return lock


def write(name: str, lock: Lock) -> None:
    """Writes a lock file."""
    LOCKS.mkdir(exist_ok=True)
    (LOCKS / name).write_text("".join(lock.values()))


def main() -> None:
    """Writes the lock files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core, extras = project["dependencies"], project["optional-dependencies"]
    served = [*core, *extras["server"], *extras["digits"]]
    whole = resolved([*served, *extras["language"], *extras["private"]])
    pytorch = {name: whole.pop(name) for name in PYTORCH}
    cuda = {name: whole.pop(name) for name in list(whole) if CUDA.match(name)}
    write("pytorch-cuda.txt", {**pytorch, **cuda})
    shared = resolved(core).keys()
    server = resolved(served).keys()
    language = resolved([*served, *extras["language"]]).keys() - server
    private = whole.keys() - server - language
    write("core.txt", {name: entry for name, entry in whole.items() if name in shared})
    write("server.txt", {name: entry for name, entry in whole.items() if name not in shared | language | private})
    write("language.txt", {name: entry for name, entry in whole.items() if name in language})
    write("private.txt", {name: entry for name, entry in whole.items() if name in private})
    write("pytorch-cpu.txt", on_cpu(pytorch))


if __name__ == "__main__":
    main()
