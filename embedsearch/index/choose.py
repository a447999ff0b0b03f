"""Which index: a pure function of size, memory and promise, with named thresholds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from numbers import Integral, Real
from typing import Any

from embedsearch.config import parse_bytes
from embedsearch.errors import PromiseError, UsageError, unknown
from embedsearch.registry import INDEXES

# up to here exact search answers in about 10 ms on two cores (200 MB of float32 are read)
FLAT_MAX_VALUES = 50_000_000
FLAT_VALUES_PER_MS = 5_000_000
# what approximate indexes are tuned to when nothing is promised
USUAL_RECALL = 0.95
# beyond this only exact search is sure to keep a promise
GRAPH_MAX_RECALL = 0.999

ASKED_FOR = "asked for"  # the reason where nothing was chosen
_FACTORY = re.compile(r"[A-Z][A-Za-z0-9_(),.\[\]+-]*")


@dataclass(frozen=True, slots=True)
class IndexRequest:
    """What an index must do.

    family: "auto", a registered family or a FAISS factory string. recall: recall@10 against exact search, above 0,
    at most 1; None for USUAL_RECALL where an index is not exact. memory_bytes: that the index may take, ids and
    metadata not counted. latency_ms: that one query alone may take, the median.

    Raises UsageError for values that cannot be meant.
    """

    family: str = "auto"
    recall: float | None = None
    memory_bytes: int | None = None
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        require_recall(self.recall)
        for name in ("recall", "latency_ms"):
            if isinstance(value := getattr(self, name), Real):  # numpy's numbers become Python's, which JSON knows
                object.__setattr__(self, name, int(value) if isinstance(value, Integral) else float(value))
        if self.memory_bytes is not None and self.memory_bytes < 1:
            raise UsageError(f"memory is {self.memory_bytes} bytes; it must be above 0")
        if self.latency_ms is not None and not (
            isinstance(self.latency_ms, int | float) and 0 < self.latency_ms < math.inf
        ):
            raise UsageError(f"latency is {self.latency_ms!r} ms; it must be a number above 0")
        if not isinstance(self.family, str):
            raise UsageError(f"index is {self.family!r}; it must be a name, such as auto, or a FAISS factory string")
        if (
            self.family != "auto"
            and not is_factory(self.family)
            and (self.family not in INDEXES or self.family == "factory")
        ):
            raise unknown(
                "index",
                self.family,
                ["auto", *(name for name in INDEXES if name != "factory")],
                "(or a FAISS factory string, such as IVF1024,SQ8)",
            )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> IndexRequest:
        return cls(**data)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Choice:
    """A family with its parameters for building and for searching, why it was chosen, and the bytes it will take."""

    family: str
    reason: str
    build: dict[str, Any] = field(default_factory=dict)
    search: dict[str, int] = field(default_factory=dict)
    memory_bytes: int = 0


def choose_index(request: IndexRequest, n: int, dim: int) -> Choice:
    """The family for n vectors of `dim` dimensions.

    "auto" takes the first of flat, graph and ivf that keeps what is asked: flat up to FLAT_MAX_VALUES values (or as
    many as the latency allows) and wherever the recall is above GRAPH_MAX_RECALL; the graph beyond; ivf where the
    graph would take too much memory. Raises PromiseError when none fits.
    """
    if request.family != "auto":
        choice = _named(request, n, dim, ASKED_FOR)
        if request.memory_bytes is not None and choice.memory_bytes > request.memory_bytes:
            raise _too_large(request, n, dim, [choice])
        return choice
    tried: list[Choice] = []
    for family, reason in _candidates(request, n, dim):
        tried.append(choice := _named(request, n, dim, reason, family))
        if request.memory_bytes is None or choice.memory_bytes <= request.memory_bytes:
            return choice
    raise _too_large(request, n, dim, tried)


def _candidates(request: IndexRequest, n: int, dim: int) -> list[tuple[str, str]]:
    values = n * dim
    most = FLAT_MAX_VALUES
    if request.latency_ms is not None:
        most = min(most, int(request.latency_ms * FLAT_VALUES_PER_MS))
    size = f"{n:,} x {dim} = {values:,} values"
    if request.recall is not None and request.recall > GRAPH_MAX_RECALL:
        return [("flat", f"recall {request.recall:g} is promised, above {GRAPH_MAX_RECALL} only exact search is sure")]
    in_time = "" if most == FLAT_MAX_VALUES else f" that exact search compares in {request.latency_ms:g} ms"
    why = f"more than the {most:,}{in_time}" if in_time else f"more than {most:,}"
    if values <= most:
        why = "for which exact search takes more memory than there may be"
    approximate = [
        ("graph", f"{size}, {why}"),
        ("ivf", f"{size}, for which a graph takes more memory than there may be"),
    ]
    return [("flat", f"{size}, at most {most:,}{in_time}"), *approximate] if values <= most else approximate


def _named(request: IndexRequest, n: int, dim: int, reason: str, family: str | None = None) -> Choice:
    family = family or request.family
    chosen = INDEXES.get("factory" if is_factory(family) else family)
    recall = USUAL_RECALL if request.recall is None else request.recall
    build = {"factory": family} if is_factory(family) else chosen.plan(n, dim, recall)
    family = chosen.family
    return Choice(family, reason, build, chosen.usual_search(), round(chosen.planned_bytes(n, dim, build)))


def _too_large(request: IndexRequest, n: int, dim: int, tried: list[Choice]) -> PromiseError:
    needs = ", ".join(f"{choice.family} takes about {in_mib(choice.memory_bytes)}" for choice in tried)
    least = min(choice.memory_bytes for choice in tried)
    assert request.memory_bytes is not None
    return PromiseError(
        f"{n:,} vectors of {dim} dimensions do not fit in {in_mib(request.memory_bytes, as_limit=True)}: {needs}; "
        f"allow --memory {in_mib(least)}, or take fewer dimensions with --pca"
    )


def changed_request(
    family: str | None, recall: float | None, memory: int | str | None, latency_ms: float | None
) -> dict[str, Any]:
    """The fields of an IndexRequest that are given, memory as bytes or "2GiB". Raises UsageError for one that cannot be
    meant."""
    given: dict[str, Any] = {
        "family": family,
        "recall": recall,
        "memory_bytes": None if memory is None else parse_bytes(memory),
        "latency_ms": latency_ms,
    }
    given = {name: value for name, value in given.items() if value is not None}
    IndexRequest(**given)
    return given


def require_recall(recall: Any) -> float:
    """`recall`, or USUAL_RECALL for None. Raises UsageError when it can be no share."""
    if recall is not None and (not isinstance(recall, Real) or not 0 < float(recall) <= 1):
        raise UsageError(f"recall is {recall!r}; it must be above 0 and at most 1, such as 0.95")
    return USUAL_RECALL if recall is None else float(recall)


def is_factory(name: str) -> bool:
    """Whether `name` may be a FAISS factory string, such as "IVF1024,PQ32x4fs": those begin with a capital."""
    return bool(_FACTORY.fullmatch(name))


def in_mib(n_bytes: int, *, as_limit: bool = False) -> str:
    """Bytes as parse_bytes reads them, in whole MiB, or in hundredths of those where they are few: rounded up, or down
    where they are a limit, so that what is larger than a limit never looks the same."""
    parts = 1 if n_bytes >= 100 * 2**20 else 100
    rounded = n_bytes * parts // 2**20 if as_limit else -(-n_bytes * parts // 2**20)
    return f"{rounded / parts:.10g}MiB" if rounded else f"{n_bytes}B"
