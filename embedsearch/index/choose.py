"""Which index family: a pure function of size, with named thresholds."""

from __future__ import annotations

from dataclasses import dataclass, field

from embedsearch.errors import unknown
from embedsearch.index import hnsw
from embedsearch.registry import INDEXES

# up to here exact search answers in about 10 ms on two cores (200 MB of float32 are read)
FLAT_MAX_VALUES = 50_000_000


@dataclass(frozen=True, slots=True)
class Choice:
    """A family with its parameters for building and for searching, and why it was chosen."""

    family: str
    reason: str
    build: dict[str, int] = field(default_factory=dict)
    search: dict[str, int] = field(default_factory=dict)


def choose_index(asked: str, n: int, dim: int) -> Choice:
    """The family for n vectors of `dim` dimensions. asked: "auto" or a registered family.

    Raises UnknownNameError for a family that is not registered.
    """
    if asked != "auto" and asked not in INDEXES:
        raise unknown("index", asked, ["auto", *INDEXES])
    family, reason = asked, "asked for"
    if asked == "auto":
        small = n * dim <= FLAT_MAX_VALUES
        family = "flat" if small else "hnsw"
        reason = f"{n} x {dim} = {n * dim:,} values, {'at most' if small else 'more than'} {FLAT_MAX_VALUES:,}"
    if family == "hnsw":
        return Choice(
            family,
            reason,
            build={"M": hnsw.M, "ef_construction": hnsw.EF_CONSTRUCTION},
            search={"ef_search": hnsw.EF_SEARCH},
        )
    return Choice(family, reason)
