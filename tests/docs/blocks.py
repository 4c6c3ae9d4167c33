"""The fenced blocks of a Markdown page, and the shell script that runs them.

A comment directly above a block says how it is run:

``<!-- not run: REASON -->``   it is not run here
``<!-- slow -->``              it is run by `make test-slow` only
``<!-- background -->``        it starts a server, which stays until the session ends
``<!-- slow, background -->``  both
``<!-- file: NAME -->``        it is written to this file in the working folder
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LANGUAGES = {"console", "python", "toml", "json", "text"}
DIRECTIVE = "{"  # opens the name of one of MyST's own blocks
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>[^>]*?) -->\n)?^(?P<fence>```+)(?P<language>[^\n]*)\n(?P<text>.*?)^(?P=fence)$",
    re.M | re.S,
)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: The page, relative to the repository.
        line: Number of the first line of its text.
        language: What stands behind the fence.
        text: The lines between the fences.
        how: What the comment above says, before its colon.
        what: What it says after the colon.
        slow: Whether it says that the block is slow.
    """

    page: str
    line: int
    language: str
    text: str
    how: str = ""
    what: str = ""
    slow: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.how == "file" or (self.language in ("console", "python") and self.how != "not run")

    def commands(self) -> str:
        """Returns the commands of a console block, without the prompts and the output."""
        commands, more = [], False
        for line in self.text.splitlines():
            if line.startswith("$ ") or more:
                commands.append(line.removeprefix("$ "))
                more = line.endswith("\\")
        return "\n".join(commands)


def pages() -> list[Path]:
    """Returns the pages that people wrote; the reference is generated."""
    written = sorted((ROOT / "docs").glob("*.md"))
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *written]


def blocks(page: Path) -> list[Block]:
    """Returns the blocks of a page, in order."""
    text, name, found = page.read_text(), str(page.relative_to(ROOT)), []
    for match in _BLOCK.finditer(text):
        how, _, what = (match["note"] or "").partition(": ")
        slow, how = how.startswith("slow"), how.removeprefix("slow").removeprefix(", ").strip()
        line = text[: match.start("text")].count("\n") + 1
        if not match["language"].startswith(DIRECTIVE):
            found.append(Block(name, line, match["language"], match["text"], how, what.strip(), slow))
    return found


def script(blocks: list[Block], ports: dict[str, int]) -> str:
    """Returns a bash script that runs blocks in order and ends with the first command that fails.

    Args:
        blocks: The blocks.
        ports: Free ports, by the ports that the pages name.
    """
    parts = [_PROLOGUE]
    for number, block in enumerate(blocks):
        text = re.sub(r"\b80\d\d\b", lambda match: str(ports[match[0]]), block.commands() or block.text)
        parts.append(f'echo "## {block}, after $SECONDS s" >&2')
        if block.how == "file":
            parts.append(_written(block.what, block.text))
        elif block.how == "background":
            port = re.search(r"--port (\d+)", text)
            serve = text if port else f"{text} --port {ports['8000']}"
            parts.append(f"serve {port[1] if port else ports['8000']} <<'SERVE'\n{serve}\nSERVE")
        elif block.language == "python":
            name = f"block-{number}.py"
            parts.append(_written(name, block.text) + f"\npython {name}")
        else:
            parts.append(f"echo {_quoted(text)} >&2\n{text}")
    return "\n".join(parts) + "\n"


def _written(name: str, text: str) -> str:
    return f"cat > {name} <<'WRITTEN'\n{text}WRITTEN"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


_PROLOGUE = r"""
set -euo pipefail
servers=()
trap 'kill "${servers[@]}" 2>/dev/null || true; wait' EXIT
serve() {  # serve PORT < COMMAND: starts it and waits until it answers
    bash -c "exec $(cat)" > "server-$1.log" 2>&1 < /dev/null &
    servers+=($!)
    until curl -sf -o /dev/null "http://127.0.0.1:$1/v2/health/ready"; do
        kill -0 "${servers[-1]}" || { cat "server-$1.log" >&2; exit 1; }
        sleep 0.2
    done
}
"""
