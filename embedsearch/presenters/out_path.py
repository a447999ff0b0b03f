"""What is told of a path that nothing can be written to, before any work is done for it."""

from __future__ import annotations

import os
from pathlib import Path

from embedsearch.errors import UsageError


def check_writable(path: Path, told: str) -> None:
    """Raises UsageError where no file can be written to `path`: it is a folder, or lies in none that can be written to.

    told: what the message calls it, such as "sheet worst.png".
    """
    folder = path.absolute().parent
    if not folder.is_dir():
        raise UsageError(f"{told} cannot be written: the folder {path.parent} does not exist")
    if path.is_dir():
        raise UsageError(f"{told} cannot be written: it is a folder")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise UsageError(f"{told} cannot be written: {path if path.exists() else path.parent} is read-only")
