"""What every source of items offers."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from embedsearch.types import CHUNK_COLUMNS, STORE_COLUMNS, Item, Modality, Skip

_NO_NAMES = str.maketrans(".`\0", "___")


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns that are not metadata; None takes `id`, `text`, `image` where they exist."""

    id: str | None = None
    text: str | None = None
    image: str | None = None


class ItemSource(ABC):
    """A stream of items in a stable order, that can be walked any number of times.

    location: what the user named, normalised; part of the identity of a build.
    """

    location: str
    modality: Modality

    @abstractmethod
    def __iter__(self) -> Iterator[Item | Skip]:
        """Every input, once: an Item, or a Skip with the reason it is left out."""

    @abstractmethod
    def count(self) -> int | None:
        """How many inputs a walk gives, or None where counting is as dear as walking."""

    @property
    def is_numbered(self) -> bool:
        """True when ids only count the inputs: the same ones are in any other source of the kind."""
        return False

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the items' metadata."""
        return pa.schema([])

    @property
    def renamed(self) -> dict[str, str]:
        """Metadata columns that the store keeps under another name: name in the source -> in the store."""
        return {}

    def shard(self, i: int, n: int) -> Iterator[Item | Skip]:
        """Every n-th input from the i-th on (0 <= i < n); the n shards partition the source."""
        return islice(iter(self), i, None, n)


def text_hash(text: str) -> str:
    """The fingerprint of a text: 128 bits of BLAKE2b, as hex."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def free_name(name: str, taken: set[str]) -> str:
    """A name near `name` under which the store can keep a metadata column.

    Dots mean nesting to the store, backticks end its quoted names and zeros any, those that begin with _row are its
    own, and empty ones it does not take; underscores are added while a name collides with a store column or another in
    `taken`.
    """
    free = name.strip().translate(_NO_NAMES) or "column"
    if free.startswith("_row"):
        free = free.lstrip("_")
    while free in STORE_COLUMNS or free in CHUNK_COLUMNS or free in taken:
        free += "_"
    return free
