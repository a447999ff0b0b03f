"""Where a build stands when it starts: nothing there, an unfinished build, or a committed generation."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from embedsearch.artifact import Layout, Manifest, Pending, read_manifest, read_pending, verify_files
from embedsearch.artifact.adding import discard_unfit_adds
from embedsearch.config import Recipe
from embedsearch.errors import ContradictionError, DamagedIndexError, EmbedSearchError, UsageError
from embedsearch.postprocess import Projection
from embedsearch.sources import ArraySource, ItemSource
from embedsearch.store import StoreWriter
from embedsearch.store.writer import latest_version


@dataclass(slots=True)
class BuildState:
    """manifest: the committed generation, if any. projection: of the rows that are kept, if one is
    fitted already. items_are_fresh: items.lance holds no row of this build yet. resumed: an unfinished
    build goes on. base_version: of items.lance before this build wrote any row. updates: the committed generation is
    brought in line with its source, not replaced."""

    recipe: Recipe
    manifest: Manifest | None
    projection: Projection | None
    generation: int
    items_are_fresh: bool
    pooled_is_fresh: bool
    resumed: bool
    base_version: int
    updates: bool = False

    @property
    def fits(self) -> bool:
        """True when this build has to fit a projection after it has extracted."""
        return self.recipe.needs_fit and self.projection is None

    def wrote(self, writer: StoreWriter) -> None:
        """Notes that extraction is over: what `writer` holds is not fresh any more."""
        if self.fits:
            self.pooled_is_fresh = writer.is_empty
        else:
            self.items_are_fresh = writer.is_empty

    def writer(self, layout: Layout, metadata: pa.Schema) -> StoreWriter:
        """The dataset that extraction writes to."""
        if self.fits:
            return StoreWriter(layout.pooled, metadata, fresh=self.pooled_is_fresh)
        return StoreWriter(layout.items, metadata, fresh=self.items_are_fresh)


def open_state(layout: Layout, recipe: Recipe, source: ItemSource | ArraySource, *, restart: bool) -> BuildState:
    """Finds out where the build stands and records a new one.

    Raises ContradictionError when the folder belongs to another recipe or source, UsageError when it
    holds other files, DamagedIndexError when its records cannot be read; `restart` passes over the
    first and the last.
    """
    try:
        manifest = read_manifest(layout.root) if layout.manifest.exists() else None
        pending = read_pending(layout.root)
    except DamagedIndexError:
        if not restart:
            raise
        manifest = pending = None
    if pending is not None and manifest is not None and pending.generation <= manifest.generation:
        pending = None  # killed after its commit, before it was tidied away
    if pending is not None and not restart and is_without_rows(layout, pending):
        # nothing was extracted, so it loses nothing to begin anew, or with another recipe
        same = not pending.updates and not _differences(recipe, source, pending.recipe, pending.source)
        restart = manifest is None or same
        pending = None
    if restart or (pending is None and manifest is None):
        return _begin(layout, recipe, source, manifest)
    if pending is not None and not pending.updates:
        # pooled vectors serve any projection, so another one may be asked for without extracting again
        other = pending.recipe
        if recipe.needs_fit and other.needs_fit:
            other = replace(other, pca=recipe.pca, whiten=recipe.whiten, whiten_power=recipe.whiten_power)
        _require_same(layout, recipe, source, other, pending.source, "an unfinished build")
        replace(pending, recipe=recipe).write(layout)
        items_are_fresh = recipe.needs_fit or latest_version(layout.items) <= pending.base_version
        pooled_is_fresh = latest_version(layout.pooled) == 0
        return BuildState(
            recipe, manifest, None, pending.generation, items_are_fresh, pooled_is_fresh, True, pending.base_version
        )
    if manifest is None:
        raise DamagedIndexError(f"{layout.root} is damaged: manifest.json is missing; begin anew with --restart")
    _require_same(layout, recipe, source, manifest.recipe, manifest.source, "an index")
    verify_files(layout.root, manifest.files)  # never build on damage, nor vouch for it in a new manifest
    projection = Projection.load(layout.root / manifest.postprocess) if manifest.postprocess else None
    resumed = pending is not None
    if pending is None:
        pending = Pending(recipe, source.location, manifest.generation + 1, restore(layout, manifest), updates=True)
        pending.write(layout)
    return BuildState(
        recipe, manifest, projection, pending.generation, False, True, resumed, pending.base_version, updates=True
    )


def recorded_recipe(layout: Layout) -> Recipe | None:
    """The recipe of the unfinished build or the index that is there, None where there is none that can be read, or
    where a first build was killed before it had stored anything."""
    with contextlib.suppress(EmbedSearchError, OSError):
        pending = read_pending(layout.root)
        if pending is not None and (layout.manifest.exists() or not is_without_rows(layout, pending)):
            return pending.recipe
        return read_manifest(layout.root).recipe if layout.manifest.exists() else None
    return None


def restore(layout: Layout, manifest: Manifest) -> int:
    """Brings items.lance back to the committed generation; its newest version then.

    What is newer, with no build to go on, is what was left of a change that was killed.
    """
    if latest_version(layout.items) != manifest.store.version:
        StoreWriter(layout.items, pa.schema([]), fresh=False).restore(manifest.store.version)
    return latest_version(layout.items)


def is_without_rows(layout: Layout, pending: Pending) -> bool:
    return latest_version(layout.items) <= pending.base_version and latest_version(layout.pooled) == 0


def _begin(layout: Layout, recipe: Recipe, source: ItemSource | ArraySource, manifest: Manifest | None) -> BuildState:
    generation = max([0, *(number for number, _ in layout.generation_files())]) + 1
    generation = max(generation, 1 if manifest is None else manifest.generation + 1)
    # before the record of the new build: a kill in between must not leave it another build's pooled vectors
    if layout.pooled.exists():
        shutil.rmtree(layout.pooled)
    base_version = latest_version(layout.items)
    Pending(recipe, source.location, generation, base_version).write(layout)
    return BuildState(recipe, manifest, None, generation, True, True, False, base_version)


def stored(writer: StoreWriter, key: str) -> Iterator[tuple[str, str, bool]]:
    """Ids and fingerprints of the inputs that need not be extracted again, and whether the build's own source gave
    them; key: the column of their ids."""
    if writer.is_empty:
        return
    store = writer.open()
    added_from = ["added_from"] if "added_from" in store.schema.names else []  # since format 3
    for batch in store.batches([key, "fingerprint", *added_from], 65536):
        own = batch["added_from"].is_null().to_pylist() if added_from else [True] * len(batch)
        yield from zip(batch[key].to_pylist(), batch["fingerprint"].to_pylist(), own, strict=True)


def tidy(layout: Layout, manifest: Manifest) -> None:
    """Removes what neither this generation nor the one before it needs; readers may still hold that."""
    layout.pending.unlink(missing_ok=True)
    shutil.rmtree(layout.pooled, ignore_errors=True)
    discard_unfit_adds(layout, manifest.recipe)
    before = manifest.previous
    named = (*manifest.held.files, *(before.files if before else ()))
    for _, path in layout.generation_files():
        if not path.name.startswith(named):  # an index may have files beside it, named after it
            path.unlink(missing_ok=True)
    keep = [*manifest.held.versions, *(before.versions if before else ())]
    with contextlib.suppress(OSError, ValueError):  # disk space only; the next build tries again
        StoreWriter(layout.items, pa.schema([]), fresh=False).forget_versions(keep)


def require_ours(layout: Layout) -> None:
    """Raises UsageError when the folder holds a user's own files; nothing is ever written among them."""
    if not layout.root.exists():
        return
    if not layout.root.is_dir():
        raise UsageError(f"{layout.root} is a file; give a folder with --out")
    names = {path.name for path in layout.root.iterdir()}
    if layout.items.name in names:
        return
    ours = {layout.lock.name, layout.skipped.name, layout.skipped_partial.name, layout.pooled.name}
    if layout.lock.name in names:  # other programs, too, have a manifest.json
        ours |= {layout.manifest.name, layout.pending.name, *(path.name for _, path in layout.generation_files())}
    strangers = sorted(names - ours)
    if strangers:
        raise UsageError(
            f"{layout.root} is not empty and not an index (it holds {strangers[0]!r}); give another folder with --out"
        )


def _require_same(
    layout: Layout, recipe: Recipe, source: ItemSource | ArraySource, old: Recipe, old_source: str, what: str
) -> None:
    differences = _differences(recipe, source, old, old_source)
    if differences:
        raise ContradictionError(
            f"{layout.root} holds {what} with another recipe ({'; '.join(differences)}); "
            "give another folder with --out, or replace it with --restart"
        )


def _differences(recipe: Recipe, source: ItemSource | ArraySource, old: Recipe, old_source: str) -> list[str]:
    found = recipe.differences(old)
    if old_source != source.location:
        found.append(f"source: {old_source!r}, now {source.location!r}")
    return found
