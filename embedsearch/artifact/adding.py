"""What an unfinished add has extracted, so that the same add goes on with it."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import xxhash

from embedsearch.artifact.commit import write_atomically
from embedsearch.artifact.layout import Layout
from embedsearch.config import Recipe
from embedsearch.errors import EmbedSearchError

_PREFIX = "adding-"


@dataclass(frozen=True, slots=True)
class Adding:
    """The staged rows of one source: a dataset, and a record of what it is beside it.

    They are derived from the source, so they can be thrown away at any time. Each source has its own: the add of
    another one, a deletion or an optimize in between costs nothing.
    """

    root: Path
    source: str
    recipe: Recipe

    @property
    def rows(self) -> Path:
        return self.root / f"{_PREFIX}{xxhash.xxh3_64_hexdigest(self.source.encode())}.lance"

    @property
    def record(self) -> Path:
        return self.rows.with_suffix(".json")

    def is_there(self) -> bool:
        """Whether rows of this source, for an index of this recipe, are staged."""
        found = _read(self.record)
        return found is not None and found[0] == self.source and not self.recipe.differences(found[1])

    def begin(self) -> None:
        """Records an add of which nothing is staged yet."""
        self.discard()
        body = {"source": self.source, "recipe": self.recipe.to_dict()}
        write_atomically(self.record, json.dumps(body, indent=2, ensure_ascii=False).encode() + b"\n")

    def discard(self) -> None:
        """Throws away what is staged."""
        if self.rows.exists():
            shutil.rmtree(self.rows)
        self.record.unlink(missing_ok=True)


def unfinished_adds(root: Path) -> list[str]:
    """The sources whose adds were interrupted."""
    found = (_read(path) for path in sorted(root.glob(f"{_PREFIX}*.json")) if path.with_suffix(".lance").exists())
    return [record[0] for record in found if record is not None]


def discard_unfit_adds(layout: Layout, recipe: Recipe) -> None:
    """Throws away what is staged for an index of another recipe, and what no record names."""
    for rows in layout.root.glob(f"{_PREFIX}*.lance"):
        found = _read(rows.with_suffix(".json"))
        if found is None or recipe.differences(found[1]):
            shutil.rmtree(rows, ignore_errors=True)
            rows.with_suffix(".json").unlink(missing_ok=True)


def _read(path: Path) -> tuple[str, Recipe] | None:
    """Source and recipe; None where there is no record, or none that can be read: staged rows are worth no error."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return str(body["source"]), Recipe.from_stored(body["recipe"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EmbedSearchError):
        return None
