"""Groups of items as lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from embedsearch.types import Hit

_MOST = 10  # items of a group that are listed


def group_as_text(kept: Hit, others: Sequence[Hit], n_chained: int) -> str:
    """A heading, then a line an item: its score with the kept one, and its id."""
    chained = f", {n_chained:,} of them only by way of others" if n_chained else ""
    lines = [f"{len(others) + 1:,} items{chained}", f"  kept    {kept.id}"]
    lines += [f"  {hit.score:.4f}  {hit.id}" for hit in others[:_MOST]]
    if len(others) > _MOST:
        lines.append(f"  and {len(others) - _MOST:,} more, down to {others[-1].score:.4f}")
    return "\n".join(lines)


def group_as_data(kept: Hit, others: Sequence[Hit], n_chained: int) -> dict[str, object]:
    """{"kept", "others": [{"id", "score"}], "n_chained"}, with "uri" where an item has one."""

    def item(hit: Hit) -> dict[str, object]:
        return {"id": hit.id, **({"uri": hit.uri} if hit.uri else {})}

    return {
        "kept": item(kept),
        "others": [{**item(hit), "score": round(hit.score, 6)} for hit in others],
        "n_chained": n_chained,
    }
