"""Which items go through a network together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedsearch.backbones import Backbone


def batches(prepared: Sequence[Any], backbone: Backbone, batch_size: int, most_length: int) -> Iterator[list[int]]:
    """Places of `prepared`, each in one batch.

    Items of like lengths go together, so that little is wasted on padding; only items of one bucket; at
    most batch_size of them, and of most_length in all (one that is longer goes alone), so that long texts do not
    outgrow the memory.
    """
    buckets: dict[Any, list[int]] = {}
    for place, item in enumerate(prepared):
        buckets.setdefault(backbone.bucket(item), []).append(place)
    for places in buckets.values():
        batch: list[int] = []
        total = 0
        for place in sorted(places, key=lambda i: (backbone.length(prepared[i]), i)):
            length = backbone.length(prepared[place])
            if batch and (len(batch) == batch_size or total + length > most_length):
                yield batch
                batch, total = [], 0
            batch.append(place)
            total += length
        if batch:
            yield batch
