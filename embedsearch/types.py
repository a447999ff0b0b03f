"""The nouns that travel along the road: plain data, known to every layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class Metric(StrEnum):
    """How two vectors are compared. Compared only as this enum, never as a string."""

    COSINE = "cosine"  # inner product of L2-normalised vectors
    IP = "ip"  # inner product
    L2 = "l2"  # squared Euclidean distance

    @property
    def higher_is_better(self) -> bool:
        """True where a larger score means more alike; an l2 score is a squared distance."""
        return self is not Metric.L2


class Modality(StrEnum):
    """What an item is made of."""

    IMAGE = "image"
    TEXT = "text"
    TENSOR = "tensor"  # an array of a network's own input shape
    VECTOR = "vector"  # an embedding already


# columns of the store that are not the user's metadata
STORE_COLUMNS = ("id", "vector", "uri", "content_hash", "fingerprint", "truncated", "added_from")
# columns of an index of chunks: the text a chunk was taken from, and where in it, in characters
CHUNK_COLUMNS = ("chunk_of", "chunk_start", "chunk_end")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to be indexed, as its source names it.

    id: the user's stable name for it. uri: where its content lies ("" when `content` holds it).
    content: the text or array itself, or None when it must be read from `uri`. fingerprint: changes
    when the content may have changed (size and time of a file, hash of a text). metadata: the other
    columns.
    """

    id: str
    uri: str = ""
    content: Any = None
    fingerprint: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skip:
    """One input that is left out of the index, and why."""

    id: str
    uri: str
    reason: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer: rank counts from 1, score is in the metric's own unit."""

    id: str
    score: float
    rank: int
    metadata: dict[str, Any] = field(default_factory=dict)
    uri: str = ""


class Hits(list[Hit]):
    """The hits of one query, best first; `note` says why fewer than k came back, else None."""

    def __init__(self, hits: list[Hit] | None = None, note: str | None = None) -> None:
        super().__init__(hits or [])
        self.note = note


class Recommendations(tuple["NDArray[np.object_]", "NDArray[np.float32]"]):
    """Ids and scores, to be unpacked as two arrays: of k for one person, n x k for many, best first.

    Of many, the end of a short row is filled with None and NaN. notes: for each person why fewer than k came back and
    what was read as a text but looks like an id, else None. because: for each person and each answer, the liked ids
    that pulled it, the strongest first; None where that was not asked for.
    """

    notes: list[str | None]
    because: list[list[list[str]]] | None

    def __new__(
        cls,
        ids: NDArray[np.object_],
        scores: NDArray[np.float32],
        notes: list[str | None],
        because: list[list[list[str]]] | None = None,
    ) -> Self:
        made = super().__new__(cls, (ids, scores))
        made.notes, made.because = notes, because
        return made

    @property
    def ids(self) -> NDArray[np.object_]:
        """The ids, as the first of the pair."""
        return self[0]

    @property
    def scores(self) -> NDArray[np.float32]:
        """The scores, as the second of the pair."""
        return self[1]


@dataclass(frozen=True, slots=True)
class Features:
    """Raw activations of one layer, the same for every modality.

    values: float B x T x C (T places of a map, or T tokens). mask: bool B x T, True where a place is
    real, or None when all are. grid: (H, W) with H*W == T for maps, else None. roles: int8 B x T, what
    a token is there for (CONTENT, CLASS, OTHER_SPECIAL), or None where there are no special tokens.
    """

    values: torch.Tensor
    mask: torch.Tensor | None = None
    grid: tuple[int, int] | None = None
    roles: torch.Tensor | None = None


# roles of tokens: the item's own; the one that stands for the whole; separators and the like
CONTENT, CLASS, OTHER_SPECIAL = 0, 1, 2


@dataclass(frozen=True, slots=True)
class LayerInfo:
    """One layer of a network, as `embedsearch layers` lists it.

    shape: of the output for one item, without the batch axis; None where no pass was made. gflop:
    multiply-adds counted as two, spent until this layer has answered. n_params: cumulative, of all
    that has worked until then. n_calls: in one pass. aliases: other names it answers to.
    """

    name: str
    type: str
    shape: tuple[int, ...] | None
    gflop: float | None
    n_params: int | None
    n_calls: int = 1
    aliases: tuple[str, ...] = ()


@dataclass(slots=True)
class Block:
    """Rows on their way into the store: vectors are float32 N x D, aligned with every list.

    added_from: the source of the add that they come by, None for a build's own.
    """

    ids: list[str]
    vectors: NDArray[np.float32]
    uris: list[str]
    content_hashes: list[str]
    fingerprints: list[str]
    truncated: list[bool]
    metadata: list[dict[str, Any]]
    added_from: str | None = None

    def __len__(self) -> int:
        return len(self.ids)


class Progress(Protocol):
    """What long work reports to; the command line draws it, a library user may pass their own."""

    def stage(self, label: str, total: int | None = None) -> None:
        """A new stage begins; `total` items are expected, or None when that is not known."""

    def advance(self, n_items: int, n_skipped: int = 0) -> None:
        """So many items are done since the last call, so many of them were skipped."""

    def close(self) -> None:
        """The work is over, well or badly."""


class NoProgress:
    """The silent default."""

    def stage(self, label: str, total: int | None = None) -> None: ...

    def advance(self, n_items: int, n_skipped: int = 0) -> None: ...

    def close(self) -> None: ...
