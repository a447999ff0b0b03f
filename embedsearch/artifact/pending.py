"""What an unfinished build was asked to do, so that only the same command goes on with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from embedsearch.artifact.commit import write_atomically
from embedsearch.artifact.layout import Layout
from embedsearch.config import Recipe
from embedsearch.errors import DamagedIndexError, EmbedSearchError


@dataclass(frozen=True, slots=True)
class Pending:
    """generation: the one it will commit. base_version: of items.lance when it began; newer versions
    hold rows of this build. updates: it brings the committed generation up to date, instead of replacing it."""

    recipe: Recipe
    source: str
    generation: int
    base_version: int
    updates: bool = False

    def write(self, layout: Layout) -> None:
        body = {
            "recipe": self.recipe.to_dict(),
            "source": self.source,
            "generation": self.generation,
            "base_version": self.base_version,
            "updates": self.updates,
        }
        write_atomically(layout.pending, json.dumps(body, indent=2, ensure_ascii=False).encode() + b"\n")


def read_pending(root: Path) -> Pending | None:
    """The unfinished build in `root`, or None. Raises DamagedIndexError when its record cannot be read."""
    path = Layout(root).pending
    if not path.exists():
        return None
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        return Pending(
            Recipe.from_stored(body["recipe"]),
            str(body["source"]),
            int(body["generation"]),
            int(body["base_version"]),
            bool(body.get("updates", False)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EmbedSearchError) as error:
        raise DamagedIndexError(f"{path} is damaged ({error}); begin anew with --restart") from error
