"""The record of what was left out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from embedsearch.artifact import Layout, fsync_path
from embedsearch.sources import ArraySource, ItemSource
from embedsearch.types import Skip

_MAX_REASONS = 1000  # reasons that name a number each could be as many as the inputs


class SkipLog:
    """Lines of JSON, written as they come; replaces skipped.jsonl when the generation is committed.

    n: of the source that is walked. total: with those of other sources.
    """

    def __init__(self, path: Path, added_from: str | None = None, before: Path | None = None) -> None:
        """added_from: the source of an add, None for a build's own. before: the record so far, of which the lines of
        other sources are carried over; those of this one its walk writes anew."""
        self._path = path
        self._added_from = added_from
        self._stream = path.open("w", encoding="utf-8")
        self.n = self.total = 0
        self.reasons: Counter[str] = Counter()
        if before is not None and before.exists():
            self._carry(before)

    def _carry(self, before: Path) -> None:
        with before.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                try:
                    entry = json.loads(line)
                    is_other = entry.get("added_from") != self._added_from
                except (ValueError, AttributeError):
                    continue  # a damaged line tells nobody anything
                if is_other:
                    self._stream.write(line.rstrip("\n") + "\n")
                    self.total += 1

    def add(self, skip: Skip) -> None:
        self.n += 1
        self.total += 1
        if len(self.reasons) < _MAX_REASONS or skip.reason in self.reasons:
            self.reasons[skip.reason] += 1
        line = {"id": skip.id, "uri": skip.uri, "reason": skip.reason}
        if self._added_from is not None:
            line["added_from"] = self._added_from
        text = json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace").decode("utf-8")
        self._stream.write(text + "\n")

    def publish(self, target: Path) -> None:
        """Makes this record the one that users read."""
        self._stream.close()
        fsync_path(self._path)
        self._path.replace(target)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()


def nothing_to_index(source: ItemSource | ArraySource, skips: SkipLog, layout: Layout) -> str:
    """Why a walk over a whole source has found nothing."""
    if skips.n == 0:
        return f"{source.location} holds no {source.modality.value}s"
    reason, count = max(skips.reasons.items(), key=lambda pair: pair[1])
    all_of_them = f"all {skips.n:,} inputs were left out, {count:,} of them"
    if skips.n == 1:
        all_of_them = "its only input was left out"
    return f"nothing to index in {source.location}: {all_of_them}, because: {reason} (see {layout.skipped_partial})"
