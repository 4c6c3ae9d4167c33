"""The reference follows the code, links lead somewhere, and the pages build without a warning."""

import importlib.util
import re
import subprocess
import sys
from difflib import unified_diff

import nbformat
import pytest
from blocks import ROOT, pages
from nbclient import NotebookClient

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


def test_the_reference_is_fresh(monkeypatch):
    for name in ("MLAAS_URL", "MLAAS_KEY", "MLAAS_KEY_FILE", "MLAAS_DATA", "MLAAS_STATE"):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    written = {path.name: path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md")}
    made = generate.pages()
    assert made.keys() == written.keys()
    for name, text in made.items():
        changes = list(unified_diff(written[name].splitlines(), text.splitlines(), name, "the code", n=0))
        assert not changes, "\n".join(["run python docs/generate.py:", *changes])


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_links_lead_to_files(page):
    for target in LINK.findall(page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) <= 7 * 1024


def test_the_pages_build_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason="the extra `docs` is not installed")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", ROOT / "docs", tmp_path / "site"]
    done = subprocess.run([*command, "-d", tmp_path / "doctrees"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs for cell in code), "commit it without outputs"
    assert sum(bool(line.strip()) for cell in code for line in cell.source.splitlines()) <= 25
    done = NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(output.get("text", "") for output in done.cells[-1].outputs)
    assert float(re.search(r"agreement (\S+),", printed)[1]) > 0.8
