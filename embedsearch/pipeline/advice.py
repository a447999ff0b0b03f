"""When it is worth while to fold what came and went into a fresh index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedsearch.artifact import Manifest
from embedsearch.artifact.manifest import IndexEntry
from embedsearch.index.choose import FLAT_MAX_VALUES, FLAT_VALUES_PER_MS, in_mib
from embedsearch.pipeline.positions import drift
from embedsearch.registry import INDEXES
from embedsearch.store import ItemStore

# beside an approximate index, more rows than this share of all are better searched through it
TAIL_SHARE = 0.1
# as many dead positions as this share of all: they are walked over and held in memory for nothing
DEAD_SHARE = 0.2
# below this many nothing is gained
MIN_ROWS = 1000
# every add leaves a piece of the store behind; from here on they slow a look-up down
MAX_PIECES = 100


@dataclass(frozen=True, slots=True)
class Drift:
    """How far an index is from one that is built now.

    n_tail: rows that are searched exactly, because the index does not hold them. n_dead: positions of the index whose
    rows are no more. n_pieces: of the store. advice: why `optimize` is worth while, None when it is not.
    """

    n_tail: int
    n_dead: int
    n_pieces: int
    advice: str | None


def judged(store: ItemStore, entry: IndexEntry, n_tail: int, n_dead: int) -> Drift:
    """entry: of the index that was built."""
    n, n_pieces, why = len(store), store.n_pieces, None
    exact = INDEXES.get(entry.family).exact  # a tail is searched no faster through an exact index
    request = entry.request or {}
    taken = round(entry.bytes_per_vector * (n - n_tail + n_dead)) + 4 * store.dim * n_tail
    compared = store.dim * (n_tail + (n if exact else 0))
    if n_tail and request.get("memory_bytes") and taken > request["memory_bytes"]:
        promised = in_mib(request["memory_bytes"], as_limit=True)
        why = f"with {n_tail:,} new items it takes {in_mib(taken)}, and {promised} were promised"
    elif n_tail and request.get("latency_ms") and compared > request["latency_ms"] * FLAT_VALUES_PER_MS:
        why = (
            f"{n_tail:,} new items may make a query take more than the {request['latency_ms']:g} ms that were promised"
        )
    elif n_tail * store.dim > FLAT_MAX_VALUES and not exact:
        why = f"{n_tail:,} new items are searched exactly, which takes longer than through an index"
    elif n_tail >= MIN_ROWS and n_tail > TAIL_SHARE * n and not exact:
        why = f"{n_tail / n:.0%} of the items are new and searched exactly"
    elif n_dead >= MIN_ROWS and n_dead > DEAD_SHARE * (n - n_tail + n_dead):
        why = f"{n_dead:,} places of the index are taken by deleted items"
    elif n_pieces > MAX_PIECES:
        why = f"the store is in {n_pieces:,} pieces"
    return Drift(n_tail, n_dead, n_pieces, why)


def drift_of(root: Path, manifest: Manifest, store: ItemStore) -> Drift:
    """The same of a committed generation that nobody has opened."""
    return judged(store, manifest.index, *drift(root, manifest, store))
