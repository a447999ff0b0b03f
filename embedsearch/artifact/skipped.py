"""What was left out of a generation, counted."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from embedsearch.artifact.layout import Layout


def skip_reasons(root: Path) -> dict[str, int]:
    """How often each reason stands in skipped.jsonl, the most frequent first; damaged lines are counted too."""
    counts: Counter[str] = Counter()
    path = Layout(root).skipped
    if path.exists():
        with path.open("rb") as lines:
            counts.update(map(_reason, lines))
    return dict(counts.most_common())


def _reason(line: bytes) -> str:
    try:
        return str(json.loads(line)["reason"])
    except (ValueError, KeyError, TypeError):
        return "a damaged line of skipped.jsonl"
