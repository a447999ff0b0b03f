"""Groups as one picture: a row a group, the kept item first."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from embedsearch.pipeline.duplicates.groups import Group
from embedsearch.pipeline.sheet import item_cell
from embedsearch.presenters.sheet import Cell, draw_sheet
from embedsearch.types import Modality

SHOWN_GROUPS, SHOWN_ITEMS = 50, 10


def draw_groups(groups: Iterable[Group], modality: Modality, path: Path) -> None:
    """Draws the first SHOWN_GROUPS, of each its SHOWN_ITEMS nearest; the last cell says how many more there are."""
    rows = []
    for group in islice(groups, SHOWN_GROUPS):
        shown = group.others[: SHOWN_ITEMS - 1]
        row = [item_cell(group.kept, modality, f"kept of {len(group):,}")]
        row += [item_cell(hit, modality, f"{hit.score:.4f}") for hit in shown]
        if len(shown) < len(group.others):
            row.append(Cell(("",), text=f"and {len(group.others) - len(shown):,} more"))
        rows.append(row)
    draw_sheet(rows, path)
