"""Groups of items as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from embedsearch.presenters.plain import aligned, as_plain, cut
from embedsearch.types import Hit

_MOST = 10  # items of a group that are listed


def group_as_text(kept: Hit, others: Sequence[Hit], n_chained: int) -> str:
    """A heading, then a line an item: its score with the kept one, its id, and its longest text where it has one."""
    chained = f", {n_chained:,} of them only by way of others" if n_chained else ""
    rows = [["kept", kept.id, _text(kept)]]
    rows += [[f"{hit.score:.4f}", hit.id, _text(hit)] for hit in others[:_MOST]]
    lines = [f"{len(others) + 1:,} items{chained}", *aligned(rows)]
    if len(others) > _MOST:
        lines.append(f"  and {len(others) - _MOST:,} more, down to {others[-1].score:.4f}")
    return "\n".join(lines)


def group_as_data(kept: Hit, others: Sequence[Hit], n_chained: int) -> dict[str, object]:
    """{"kept", "others": [{"id", "score"}], "n_chained"}, with "uri" and "metadata" where an item has them."""

    def item(hit: Hit) -> dict[str, object]:
        told: dict[str, object] = {"id": hit.id}
        if hit.uri:
            told["uri"] = hit.uri
        if hit.metadata:
            told["metadata"] = {name: as_plain(value) for name, value in hit.metadata.items()}
        return told

    return {
        "kept": item(kept),
        "others": [{**item(hit), "score": round(hit.score, 6)} for hit in others],
        "n_chained": n_chained,
    }


def _text(hit: Hit) -> str:
    return cut(max((value for value in hit.metadata.values() if isinstance(value, str)), key=len, default=""))
