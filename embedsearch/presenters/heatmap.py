"""A matrix of figures as one picture: rows and columns by name, each cell with its number, the marked ones framed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from embedsearch.presenters.fonts import font
from embedsearch.presenters.sheet import check_path, save_picture

_CELL_W, _CELL_H, _GAP, _FONT_SIZE = 96, 34, 14, 13
_WHITE, _INK, _GREY, _CHOSEN, _DEFAULT = (255, 255, 255), (25, 25, 25), (238, 238, 238), (200, 60, 20), (20, 90, 170)
# from low to high: steps of a scale whose lightness alone orders it, so that it is read in grey too
_SCALE = ((247, 251, 255), (198, 219, 239), (107, 174, 214), (33, 113, 181), (8, 48, 107))

Mark = tuple[int, int]  # row and column


def draw_heatmap(
    values: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    path: Path,
    *,
    title: str,
    chosen: Sequence[Mark] = (),
    default: Sequence[Mark] = (),
    notes: Sequence[str] = (),
) -> None:
    """Draws `values` (NaN where there is none), the smallest lightest, and saves them by the suffix of `path`.

    chosen, default: cells framed in red and in blue, the second inside the first. notes: lines below. Raises UsageError
    when the suffix is no picture format or the folder is not there.
    """
    check_path(path)
    letters = font(_FONT_SIZE)
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    left = 2 * _GAP + max(int(measure.textlength(name, letters)) for name in rows)
    top = _GAP + 2 * 20 + 6
    below = [*notes]
    width = left + len(columns) * _CELL_W + _GAP
    width = max([width, *(int(measure.textlength(line, letters)) + 2 * _GAP for line in [title, *below])])
    height = top + len(rows) * _CELL_H + _GAP + len(below) * 20 + _GAP
    image = Image.new("RGB", (width, height), _WHITE)
    draw = ImageDraw.Draw(image)
    draw.text((_GAP, _GAP), title, fill=_INK, font=letters)
    for c, name in enumerate(columns):
        draw.text((left + (c + 0.5) * _CELL_W, top - 12), name, fill=_INK, font=letters, anchor="mm")
    known = [value for row in values for value in row if not math.isnan(value)]
    low, high = min(known, default=0.0), max(known, default=1.0)
    for r, (name, row) in enumerate(zip(rows, values, strict=True)):
        y = top + r * _CELL_H
        draw.text((left - _GAP, y + _CELL_H / 2), name, fill=_INK, font=letters, anchor="rm")
        for c, value in enumerate(row):
            x = left + c * _CELL_W
            box = (x, y, x + _CELL_W - 2, y + _CELL_H - 2)
            share = 0.0 if math.isnan(value) or high == low else (value - low) / (high - low)
            draw.rectangle(box, fill=_GREY if math.isnan(value) else _colour(share))
            told = "-" if math.isnan(value) else f"{value:.3f}"
            ink = _WHITE if share > 0.55 else _INK
            draw.text((x + _CELL_W / 2 - 1, y + _CELL_H / 2 - 1), told, fill=ink, font=letters, anchor="mm")
            if (r, c) in chosen:
                _frame(draw, box, _CHOSEN)
            if (r, c) in default:
                inner = tuple(at + (4 if k < 2 else -4) for k, at in enumerate(box))
                _frame(draw, inner if (r, c) in chosen else box, _DEFAULT)
    for n, line in enumerate(below):
        draw.text((_GAP, top + len(rows) * _CELL_H + _GAP + n * 20), line, fill=_INK, font=letters)
    save_picture(image, path)


def _frame(draw: ImageDraw.ImageDraw, box: tuple[float, ...], colour: tuple[int, int, int]) -> None:
    """White behind it sets it apart from a dark cell."""
    draw.rectangle(box, outline=_WHITE, width=5)
    draw.rectangle(box, outline=colour, width=3)


def _colour(share: float) -> tuple[int, int, int]:
    """Of the scale, between its steps in proportion. share: 0 to 1."""
    at = share * (len(_SCALE) - 1)
    step = min(int(at), len(_SCALE) - 2)
    low, high = _SCALE[step], _SCALE[step + 1]
    red, green, blue = (round(a + (b - a) * (at - step)) for a, b in zip(low, high, strict=True))
    return red, green, blue
