"""How a metadata column colours points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from embedsearch.presenters.map_page import Categories, Numbers

MOST_CATEGORIES = 24  # with a colour of their own
_FEW_NUMBERS = 12  # so many different whole numbers are rather names
_NONE, _OTHER = "none", "all others"


def coloured(column: str, values: pa.ChunkedArray) -> Categories | Numbers:
    """Numbers become a scale, between their 1st and 99th percentile; all else categories, the most frequent first."""
    told: list[Any] = values.to_pylist()
    kind = values.type
    is_whole = pa.types.is_integer(kind)
    if pa.types.is_floating(kind) or (is_whole and len(set(told) - {None}) > _FEW_NUMBERS):
        numbers = np.array([np.nan if value is None else value for value in told], np.float32)
        numbers[~np.isfinite(numbers)] = np.nan
        there = numbers[~np.isnan(numbers)]
        least, most = np.percentile(there, [1, 99]) if len(there) else (0.0, 0.0)
        return Numbers(column, numbers, float(least), float(most))
    names = [None if value is None else str(value) for value in told]
    counts: dict[str, int] = {}
    for name in names:
        if name is not None:
            counts[name] = counts.get(name, 0) + 1
    own = sorted(counts, key=lambda name: (-counts[name], name))[:MOST_CATEGORIES]
    place = {name: n for n, name in enumerate(own)}
    codes = [len(own) + 1 if name is None else place.get(name, len(own)) for name in names]
    return Categories(column, [*own, _OTHER, _NONE], np.array(codes, np.int64), len(own))
