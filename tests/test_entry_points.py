"""Every entry point says how OpenMP's idle threads wait before torch, or scikit-learn, loads OpenMP."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests")
COMMANDS = sorted(path.parent.name for path in ROOT.glob("*/__main__.py"))

# Stops at the first import of what loads OpenMP, and prints the policy that holds there.
WATCH = """
import os, runpy, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "sklearn"):
            print("policy:", os.environ.get("OMP_WAIT_POLICY"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
"""


def policy(action):
    """Returns the policy at the first import of torch or scikit-learn by some code, or by a line after it."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    program = f"{WATCH}\ntry:\n    {action}\nexcept SystemExit:\n    pass\nimport torch"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    return ran.stdout.rpartition("policy: ")[2].strip()


@pytest.mark.parametrize("package", [*PACKAGES, "benchmarks.detectors", "benchmarks.serving.raw"])
def test_every_package_sets_the_policy_before_it_imports_torch(package):
    assert policy(f"import {package}") == "PASSIVE"


@pytest.mark.parametrize("package", COMMANDS)
def test_every_command_sets_the_policy_before_it_imports_torch(package):
    action = f"sys.argv = ['{package}', '--help']; runpy.run_module('{package}', run_name='__main__')"
    assert policy(action) == "PASSIVE"


@pytest.mark.parametrize("first", ["torch", "sklearn.svm"])
def test_the_watch_sees_a_wrong_order(first):
    assert policy(f"import {first}, wire.openmp") == "None"


def test_all_packages_are_there():
    assert {"wire", "zoo", "defenses", "server", "attacker", "owner", "experiments", "benchmarks"} <= set(PACKAGES)
    assert {"zoo", "server", "attacker", "owner", "experiments", "benchmarks"} <= set(COMMANDS)
