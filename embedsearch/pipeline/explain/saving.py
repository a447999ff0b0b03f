"""An explanation as a file: drawn, or as arrays."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.pipeline.explain.explanation import Explanation, Side
from embedsearch.presenters.why import Line, Picture, Text, Why, check_path
from embedsearch.presenters.why_drawing import draw
from embedsearch.presenters.why_html import as_html
from embedsearch.types import Metric

_METRICS = {Metric.COSINE: "cosine", Metric.IP: "inner product", Metric.L2: "squared distance"}


def save(explanation: Explanation, path: Path) -> None:
    """Raises UsageError when the suffix is none of those that are known, or the folder does not exist."""
    check_path(path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        path.write_bytes(_arrays(explanation))
    elif suffix in (".html", ".htm"):
        path.write_text(as_html(_why(explanation)), encoding="utf-8")
    else:
        draw(_why(explanation)).save(path)


def _arrays(found: Explanation) -> bytes:
    """pairs, query_mean, item_mean, query_places and item_places (boxes, or spans of words), and `about` as JSON."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        pairs=found.pairs,
        query_mean=found.query_mean,
        item_mean=found.item_mean,
        query_places=_places(found.query),
        item_places=_places(found.item),
        about=np.array(json.dumps(found.to_dict(), ensure_ascii=False)),
    )
    return stream.getvalue()


def _places(side: Side) -> NDArray[Any]:
    boxes = side.boxes()
    if boxes is not None:
        return boxes
    return np.empty((0, 2), np.int64) if side.spans is None else side.spans


def _why(found: Explanation) -> Why:
    whole = found.whole or 1.0
    regions = found.regions
    strongest = found.strongest()
    sums = f"{found.pairs.sum():.4f} from pairs"
    mean = float(found.query_mean.sum() + found.item_mean.sum() + found.means)
    if found.query_mean.any() or found.means:
        sums += f", {mean:+.4f} from the mean that the projection takes away"
    if found.metric is Metric.L2:
        sums = f"{found.lengths:.4f} of both lengths - 2 x ({sums})"
    if abs(found.rounding) >= 5e-5:
        sums += f", {found.rounding:+.4f} of rounding"
    lines = []
    for pair in strongest:
        ends = (
            _end(found.query, regions and regions[0], pair.query),
            _end(found.item, regions and regions[1], pair.item),
        )
        lines.append(Line(ends[0], ends[1], pair.share / whole))
    return Why(
        title=f"score {found.score:.4f}",
        subtitle=f"{_METRICS[found.metric]}: {sums}",
        left=_drawn(found.query, found.query_shares / whole),
        right=_drawn(found.item, found.item_shares / whole),
        lines=tuple(lines),
        notes=(found.split, *found.notes),
        n_pairs=found.pairs.size if regions is None else int(np.prod(regions)),
        in_per_cent=found.whole is not None,
    )


def _drawn(side: Side, shares: NDArray[np.float64]) -> Picture | Text:
    if side.grid is not None:
        assert side.picture is not None and side.box is not None
        n = side.grid[0] * side.grid[1]
        return Picture(side.label, side.picture, side.box, shares[:n].reshape(side.grid), float(shares[n:].sum()))
    spans = np.full((len(side.words), 2), -1) if side.spans is None else side.spans
    marks = tuple((int(a), int(b), word, float(s)) for (a, b), word, s in zip(spans, side.words, shares, strict=True))
    return Text(side.label, side.text or "", marks, side.read)


def _end(side: Side, grid: tuple[int, int] | None, number: int) -> tuple[float, float, float, float] | str:
    return side.words[number] if grid is None else side.cell_box(grid, number)
