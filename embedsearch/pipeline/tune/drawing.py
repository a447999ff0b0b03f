"""What tuning found out, as a picture."""

from __future__ import annotations

from pathlib import Path

from embedsearch.pipeline.tune.report import Scored, Tuned
from embedsearch.presenters.heatmap import draw_heatmap


def draw_tuned(tuned: Tuned, path: Path) -> None:
    """Layers x poolings, each with its best figure over projections; the chosen ones and the default framed."""
    n_chose = tuned.n_asked if tuned.labelled else len(tuned.parts["choose"])
    draw_heatmap(
        tuned.heat,
        tuned.layers,
        tuned.poolings,
        path,
        title=f"{tuned.measure} by {n_chose:,} queries, best over projections",
        chosen=[] if tuned.chosen is None else _places(tuned, tuned.chosen),
        default=_places(tuned, tuned.default),
        notes=[
            *([] if tuned.chosen is None else [f"red: chosen ({tuned.chosen.candidate})"]),
            f"blue: default ({tuned.default.candidate})",
            tuned.verdict,
        ],
    )


def _places(tuned: Tuned, scored: Scored) -> list[tuple[int, int]]:
    c = scored.candidate
    return [(tuned.layers.index(layer), tuned.poolings.index(c.pooling)) for layer in c.layers]
