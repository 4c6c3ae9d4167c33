"""Whatever a page tells a reader to type has been typed."""

import os
import re
import socket
import subprocess
import sys
import tomllib

import pytest
from blocks import LANGUAGES, ROOT, blocks, pages, script

from server.layer_tables import check_table
from server.settings import Plan, Victim

ALL = [block for page in pages() for block in blocks(page)]
# The pages of docs/ are one session, in the order of the table of contents: all go on from the quickstart.
ORDER = re.findall(r"^[a-z]+$", (ROOT / "docs" / "index.md").read_text(), re.MULTILINE)
SESSIONS = {
    "readme": [block for block in ALL if block.page == "README.md"],
    "contributing": [block for block in ALL if block.page == "CONTRIBUTING.md"],
    "docs": [block for name in ORDER for block in ALL if block.page == f"docs/{name}.md"],
}


def test_pages_have_blocks():
    assert all(len(session) > 3 for session in SESSIONS.values())
    assert sum(map(len, SESSIONS.values())) == len(ALL), "a page of docs/ is not in the table of contents"


@pytest.mark.parametrize("block", ALL, ids=str)
def test_a_block_is_run_or_says_why_not(block):
    assert block.language in LANGUAGES, "an unknown language, so nobody knows whether it can be run"
    assert block.how in ("", "not run", "background", "file")
    if block.how in ("not run", "file"):
        assert block.what
    if block.language == "console":
        assert block.commands(), "a console block without a line that begins with '$ '"
    if block.language == "text":
        assert "$ " not in block.text
    if block.language == "toml":
        table = tomllib.loads(block.text)
        for each in table.get("victims", []):
            Victim(**each)
        for each in table.get("plans", {}).values():
            Plan(**each)
        for each in table.get("defenses", []):
            check_table(each)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("session", SESSIONS)
@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["quick", "slow"])
def test_blocks_run(session, long, tmp_path):
    todo = [block for block in SESSIONS[session] if block.runs]
    if long and not any(block.slow for block in todo):
        pytest.skip("no block is slow")
    for name in ("docs", "results", "range.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "bin").mkdir()
    for name, module in (("python", ""), ("mlaas-range", " -m cli")):
        command = tmp_path / "bin" / name
        command.write_text(f'#!/bin/sh\nexec {sys.executable}{module} "$@"\n')
        command.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLAAS_")}
    env = kept | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    code = script([block for block in todo if long or not block.slow], ports())
    done = subprocess.run(["bash", "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"


def ports() -> dict[str, int]:
    """Returns free ports in place of those that the pages name."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(4)]
    found = {str(8000 + number): each.getsockname()[1] for number, each in enumerate(sockets)}
    for each in sockets:
        each.close()
    return found
