"""The record of what was left out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

from embedsearch.artifact import fsync_path
from embedsearch.types import Skip

_MAX_REASONS = 1000  # reasons that name a number each could be as many as the inputs


class SkipLog:
    """Lines of JSON, written as they come; replaces skipped.jsonl when the generation is committed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream = path.open("w", encoding="utf-8")
        self.n = 0
        self.reasons: Counter[str] = Counter()

    def add(self, skip: Skip) -> None:
        self.n += 1
        if len(self.reasons) < _MAX_REASONS or skip.reason in self.reasons:
            self.reasons[skip.reason] += 1
        line = {"id": skip.id, "uri": skip.uri, "reason": skip.reason}
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
