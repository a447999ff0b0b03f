"""Answers as JSON data, and as aligned text that a terminal, a pipe and a person can read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from embedsearch.types import Hits, LayerInfo

_CELL = 60  # characters; longer metadata is cut in a table, never in JSON


def answers_as_data(queries: Sequence[str], answers: Sequence[Hits]) -> list[dict[str, Any]]:
    """One entry a query: {"query", "hits": [{"rank", "id", "score", "metadata"}], "note"}, with "uri"
    where a hit has one."""
    return [
        {
            "query": query,
            "hits": [
                {
                    "rank": hit.rank,
                    "id": hit.id,
                    "score": round(hit.score, 6),
                    "metadata": {name: as_plain(value) for name, value in hit.metadata.items()},
                    **({"uri": hit.uri} if hit.uri else {}),
                }
                for hit in hits
            ],
            "note": hits.note,
        }
        for query, hits in zip(queries, answers, strict=True)
    ]


def answers_as_text(queries: Sequence[str], answers: Sequence[Hits]) -> str:
    """A heading a query, then a line a hit: rank, score, id, metadata."""
    blocks = []
    for query, hits in zip(queries, answers, strict=True):
        names = sorted({name for hit in hits for name, value in hit.metadata.items() if value is not None})
        rows = [["rank", "score", "id", *names]]
        rows += [
            [str(hit.rank), f"{hit.score:.4f}", hit.id, *(cut(hit.metadata.get(name)) for name in names)]
            for hit in hits
        ]
        lines = [cut(query), *aligned(rows)] if hits else [cut(query)]
        if hits.note:
            lines.append(f"  ({hits.note})")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def layers_as_text(layers: Sequence[LayerInfo], default: str) -> str:
    """The table of a network's layers; the default one is marked."""
    rows = [["layer", "aliases", "type", "output", "GFLOP so far", "parameters so far", ""]]
    for info in layers:
        notes = ["default"] if info.name == default else []
        notes += [f"called {info.n_calls} times; @1 is the first, the last counts without"] if info.n_calls > 1 else []
        shape = "?" if info.shape is None else " x ".join(map(str, info.shape))
        gflop = "?" if info.gflop is None else f"{info.gflop:.3f}"
        aliases = ", ".join(info.aliases)
        n_params = "?" if info.n_params is None else f"{info.n_params:,}"
        rows.append([info.name, aliases, info.type, shape, gflop, n_params, ", ".join(notes)])
    lines = aligned(rows)
    if all(info.shape is None for info in layers):
        lines.append("nothing is known of the outputs: the network reads no picture of that size; give --input")
    return "\n".join(lines)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with columns of equal width."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def cut(value: Any) -> str:
    """A value as a cell of a table shows it: on one line, and not too long."""
    text = "" if value is None else " ".join(str(value).split())
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def as_plain(value: Any) -> Any:
    """A value of the metadata as JSON can hold it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None  # JSON has no NaN
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: as_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
