"""Prints docs/commands.md from the commands' own help: python docs/commands.py > docs/commands.md"""

from __future__ import annotations

import os
import subprocess
import sys

COMMANDS = (
    "build", "query", "explain", "recommend", "add", "delete", "optimize", "evaluate", "tune", "duplicates", "map",
    "info", "layers", "embed",
)  # fmt: skip


def page() -> str:
    parts = ["# Commands", "", "Made by `docs/commands.py` from the commands' own `--help`.", ""]
    for name in COMMANDS:
        told = subprocess.run(
            [sys.executable, "-m", "embedsearch", name, "--help"],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "100", "TERMINAL_WIDTH": "100"},
        ).stdout
        parts += [f"## embedsearch {name}", "", "```text", told.strip(), "```", ""]
    parts += [
        "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done but inputs were skipped (`--strict`), 130 interrupted.",
        "`embedsearch --debug COMMAND ...` shows the traceback of an error.",
        "",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(page())
