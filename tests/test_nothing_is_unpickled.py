"""Nothing that the parties ship unpickles a file or what came over the network."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests")
MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
CALLS = {"torch.load", "torch.save", "torch.hub.load", "torch.jit.load", "pandas.read_pickle", "pd.read_pickle"}


def unpicklers(source):
    """Returns what in a source text could unpickle, with its line."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            full = {f"{module}.{alias.name}" for alias in node.names}
            names = [module] if module.partition(".")[0] in MODULES else sorted(full & CALLS)
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)] if ast.unparse(node) in CALLS else []
        elif isinstance(node, ast.keyword):
            refused = isinstance(node.value, ast.Constant) and node.value.value is False
            names = ["allow_pickle"] if node.arg == "allow_pickle" and not refused else []
        yield from (f"line {getattr(node, 'lineno', 0)}: {name}" for name in names)


def test_nothing_is_unpickled():
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 200 and {"wire", "zoo", "defenses", "server", "attacker", "owner"} < set(PACKAGES)
    found = {path: [*unpicklers(path.read_text())] for path in files}
    assert {str(path.relative_to(ROOT)): faults for path, faults in found.items() if faults} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import os, joblib.numpy_pickle",
        "from pickle import loads",
        "from torch import load",
        "weights = torch.load(path)",
        "loads = torch.jit.load",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=trusted)",
    ],
)
def test_it_would_be_found(source):
    assert list(unpicklers(source))


@pytest.mark.parametrize(
    "source", ["np.load(path, allow_pickle=False)", "from zoo.folder import load", "'pickle'"]
)
def test_nothing_else_is(source):
    assert not list(unpicklers(source))
