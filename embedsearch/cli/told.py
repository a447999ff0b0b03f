"""Lines that several commands end with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_MOST = 5  # reasons that are shown


def left_out(index: Path, n_skipped: int, reasons: Mapping[str, int]) -> list[str]:
    """What was skipped, and the most frequent reasons."""
    if n_skipped == 0:
        return []
    were = "input was" if n_skipped == 1 else "inputs were"
    most = sorted(reasons.items(), key=lambda pair: -pair[1])
    lines = [f"{n_skipped:,} {were} left out, listed in {index / 'skipped.jsonl'}:"]
    lines += [f"  {count:,} x {reason}" for reason, count in most[:_MOST]]
    return lines + ([f"  and {len(most) - _MOST} other reasons"] if len(most) > _MOST else [])


def advised(index: Path, advice: str | None) -> list[str]:
    """Why it is worth while to fold changes into the index."""
    return [] if advice is None else [f"worth while now: embedsearch optimize {index} ({advice})"]
