"""What several commands take."""

from __future__ import annotations

from embedsearch.errors import UsageError
from embedsearch.registry import POOLING

POOLINGS = ", ".join(POOLING)


def long_texts(chunk: bool, cut: bool) -> str | None:
    """The recipe's field for the flags --chunk and --cut."""
    if chunk and cut:
        raise UsageError("--chunk and --cut are both set; a longer text is chunked or cut")
    return "chunk" if chunk else "cut" if cut else None
