"""What an unfinished build was asked to do, so that only the same command goes on with it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from embedsearch.artifact.commit import write_atomically
from embedsearch.artifact.layout import Layout
from embedsearch.artifact.lock import is_being_written
from embedsearch.config import Recipe
from embedsearch.errors import DamagedIndexError, EmbedSearchError, counted
from embedsearch.store import ItemStore


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


def unfinished_build(root: Path, generation: int) -> str | None:
    """The source of a build that was to follow `generation` and has not committed; None where there is none, or its
    record tells nothing."""
    try:
        pending = read_pending(root)
    except DamagedIndexError:
        return None
    return None if pending is None or pending.generation <= generation else pending.source


def told_unfinished(root: Path) -> str:
    """How far the first build of an index in `root` has come, and what to do."""
    pending, layout = None, Layout(root)
    with suppress(DamagedIndexError):  # the build itself tells that
        pending = read_pending(root)
    n_left_out = 0
    if layout.skipped_partial.exists():
        with layout.skipped_partial.open("rb") as lines:
            n_left_out = sum(1 for _ in lines)
    so_far = f"{counted(max(map(_n_rows, (layout.items, layout.pooled))), 'item')} stored so far"
    so_far += f", {counted(n_left_out, 'input')} left out" if n_left_out else ""
    source = pending.source if pending is not None else "its source"
    if is_being_written(root):
        return f"{root} is being built from {source} now: {so_far}; it can be asked when its build has finished"
    return f"{root} is an unfinished build of {source}: {so_far}; run its build command again to go on"


def _n_rows(dataset: Path) -> int:
    try:
        return len(ItemStore.open(dataset)) if dataset.exists() else 0
    except DamagedIndexError:
        return 0  # not even its first write has ended
