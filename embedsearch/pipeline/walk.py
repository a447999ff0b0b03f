"""A walk over a source: what is new, what is stored already, what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from embedsearch.store import Ledger, Visit
from embedsearch.types import Item, Skip

T = TypeVar("T")


@dataclass(slots=True)
class Task:
    """One shard of a source: plain data that a worker anywhere can take.

    number: position of the shard. items: what has to be extracted; changed: ids of those among them that
    replace stored rows. hashes: of what is stored for them, where that is known: with the same content they need
    not go through the network. n_known: inputs that are stored already. skips: inputs left out by the source.
    """

    number: int
    items: list[Item] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)
    hashes: dict[str, str] = field(default_factory=dict)
    n_known: int = 0
    skips: list[Skip] = field(default_factory=list)


def tasks(source: Iterable[Item | Skip], ledger: Ledger, shard_size: int) -> Iterator[Task]:
    """Shards of `shard_size` inputs, formed by position, so that a walk that goes on after a kill forms
    the same ones; what the ledger knows is left out of them."""
    for number, entries in enumerate(chunked(source, shard_size)):
        task = Task(number)
        ledger.expect([entry.id for entry in entries if not isinstance(entry, Skip)])
        for entry in entries:
            if isinstance(entry, Skip):
                task.skips.append(entry)
                continue
            visit = ledger.visit(entry.id, entry.fingerprint)
            if visit is Visit.REPEATED:
                task.skips.append(repeated(entry.id, entry.uri))
            elif visit is Visit.KNOWN:
                task.n_known += 1
            else:
                task.items.append(entry)
                if visit is Visit.CHANGED:
                    task.changed.add(entry.id)
                    if digest := ledger.content_hash(entry.id):
                        task.hashes[entry.id] = digest
        yield task


def repeated(item_id: str, uri: str = "") -> Skip:
    """The skip of an input whose id was taken by an earlier one."""
    return Skip(item_id, uri, "duplicate id: an earlier input has it")


def chunked(entries: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` entries."""
    iterator = iter(entries)
    while chunk := list(islice(iterator, size)):
        yield chunk
