"""The picture of an answer: fetches what the queries and hits look like, and has it drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedsearch.decoders import decode_image, to_rgb
from embedsearch.errors import ItemError
from embedsearch.presenters.sheet import Cell, draw_sheet
from embedsearch.sources import read_bytes
from embedsearch.types import Hit, Hits, Modality


def save_sheet(queries: Sequence[tuple[str, Any]], answers: Sequence[Hits], modality: Modality, path: Path) -> None:
    """Draws every query beside its hits. queries: label and content (path, PIL image or text; or None).

    A picture that can no longer be read is replaced by the reason, in words.
    """
    rows = []
    for (label, content), hits in zip(queries, answers, strict=True):
        query = cell_of(content if content is not None else "", modality, label, "query")
        rows.append([query, *(_hit_cell(hit, modality) for hit in hits)])
    draw_sheet(rows, path)


def _hit_cell(hit: Hit, modality: Modality) -> Cell:
    return item_cell(hit, modality, f"{hit.rank}.  {hit.score:.4f}")


def item_cell(hit: Hit, modality: Modality, first: str) -> Cell:
    """One item with its id below. first: the line above the id."""
    if modality is Modality.IMAGE:
        return cell_of(hit.uri, modality, first, hit.id)
    texts = [str(value) for value in hit.metadata.values() if isinstance(value, str)]
    return Cell((first, hit.id), text=max(texts, key=len, default=hit.id))


def cell_of(content: Any, modality: Modality, *caption: str) -> Cell:
    """What `content` (path, PIL image or text; "" for nothing) looks like, with lines below it."""
    if modality is not Modality.IMAGE or content == "":
        return Cell(caption, text=str(content))
    try:
        image = decode_image(read_bytes(str(content))) if isinstance(content, str | Path) else to_rgb(content)
        return Cell(caption, image=image)
    except ItemError as error:
        return Cell(caption, text=f"cannot be shown: {error}")
