"""Queries and their hits as one picture: a row a query, the query first, every hit with its score."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from embedsearch.errors import UsageError
from embedsearch.presenters.fonts import Font
from embedsearch.presenters.fonts import font as a_font
from embedsearch.presenters.out_path import check_writable

_SIDE = 168  # pixels of a cell's picture
_GAP = 12
_CAPTION = 40
_FONT_SIZE = 13
_WHITE, _INK, _FAINT, _QUERY = (255, 255, 255), (25, 25, 25), (225, 225, 225), (20, 90, 170)
MAX_ROWS = 200


@dataclass(frozen=True, slots=True)
class Cell:
    """One place of the sheet. image: RGB, or None to write `text` in its place. caption: lines below."""

    caption: tuple[str, ...]
    image: Image.Image | None = None
    text: str = ""


_MOST_PIXELS = {".webp": 16_383, ".jpg": 65_535, ".jpeg": 65_535}  # of a side, by the formats


def draw_sheet(rows: Sequence[Sequence[Cell]], path: Path) -> None:
    """Draws `rows` (the first cell of each is the query) and saves them by the suffix of `path`.

    Raises UsageError when the suffix is no picture format, or there are more than MAX_ROWS rows.
    """
    check_path(path)
    if len(rows) > MAX_ROWS:
        raise UsageError(f"a sheet shows at most {MAX_ROWS} queries, not {len(rows)}")
    columns = max((len(row) for row in rows), default=1)
    step, height = _SIDE + _GAP, _SIDE + _CAPTION + _GAP
    sheet = Image.new("RGB", (_GAP + columns * step + _GAP, _GAP + max(len(rows), 1) * height), _WHITE)
    draw = ImageDraw.Draw(sheet)
    font = a_font(_FONT_SIZE)
    for r, row in enumerate(rows):
        for c, cell in enumerate(row):
            # the gap behind the query is doubled, which sets it apart from its hits
            x, y = _GAP + c * step + (_GAP if c else 0), _GAP + r * height
            _draw_cell(sheet, draw, font, cell, x, y, is_query=c == 0)
    save_picture(sheet, path)


def save_picture(image: Image.Image, path: Path) -> None:
    """Saves by the suffix of `path`, which is left as it was where that fails. Raises OSError that names it, UsageError
    for a picture that such a file cannot hold."""
    most = _MOST_PIXELS.get(path.suffix.lower(), max(image.size))
    if max(image.size) > most:
        raise UsageError(
            f"{path} cannot hold a picture of {image.width:,} x {image.height:,} pixels: {path.suffix} ends at "
            f"{most:,} a side; take .png"
        )
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        image.save(temporary, Image.registered_extensions()[path.suffix.lower()])
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def check_path(path: Path) -> None:
    """Raises UsageError when no sheet can be written to `path`."""
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UsageError(f"sheet {path} must end in .png, .jpg or .webp")
    check_writable(path, f"sheet {path}")


def _draw_cell(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: Font,
    cell: Cell,
    x: int,
    y: int,
    *,
    is_query: bool,
) -> None:
    if cell.image is not None:
        image = cell.image.copy()
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        if max(image.size) < _SIDE // 2:  # small drawings are hard to judge at their own size
            scale = _SIDE / max(image.size)
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            image = image.resize(size, Image.Resampling.LANCZOS)
        sheet.paste(image, (x + (_SIDE - image.width) // 2, y + (_SIDE - image.height) // 2))
    else:
        for n, line in enumerate(wrapped(draw, cell.text, font, _SIDE - 16, _SIDE // (_FONT_SIZE + 4) - 1)):
            draw.text((x + 8, y + 8 + n * (_FONT_SIZE + 4)), line, fill=_INK, font=font)
    box = (x - 1, y - 1, x + _SIDE, y + _SIDE)
    draw.rectangle(box, outline=_QUERY if is_query else _FAINT, width=3 if is_query else 1)
    for n, line in enumerate(cell.caption[:2]):
        fitted = on_one_line(draw, line, font, _SIDE)
        draw.text((x, y + _SIDE + 4 + n * (_FONT_SIZE + 3)), fitted, fill=_QUERY if is_query else _INK, font=font)


def on_one_line(draw: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> str:
    """`text` cut to `width` pixels with an ellipsis: of a path or URL the end remains, of a single word both ends (a
    label may differ from others in either), else the beginning."""
    head, space, last = " ".join(text.split()).rpartition(" ")
    if not head and "/" not in last:
        return _both_ends(draw, last, font, width)
    if "/" not in last:
        return wrapped(draw, text, font, width, 1)[0] if text else ""
    cut = ""
    while last and draw.textlength(head + space + cut + last, font) > width:
        cut, last = "…", last[1:]
    return head + space + cut + last


def _both_ends(draw: ImageDraw.ImageDraw, word: str, font: Font, width: int) -> str:
    """`word`, or as many signs of its beginning and its end as fit around an ellipsis."""
    if len(word) <= width and draw.textlength(word, font) <= width:  # more signs than pixels fit nowhere
        return word
    for n in range(min(len(word), width), 0, -1):
        cut = f"{word[: (n + 1) // 2]}…{word[len(word) - n // 2 :]}"
        if draw.textlength(cut, font) <= width:
            return cut
    return "…"


def wrapped(
    draw: ImageDraw.ImageDraw,
    text: str,
    font: Font,
    width: int,
    n_lines: int,
) -> list[str]:
    """`text` broken into at most `n_lines` lines of `width` pixels, with an ellipsis where it is cut."""
    lines = [""]
    for word in " ".join(text.split()).split(" "):
        for part in _fitting(draw, word, font, width):
            longer = f"{lines[-1]} {part}".strip()
            if not lines[-1] or draw.textlength(longer, font) <= width:
                lines[-1] = longer
            else:
                lines.append(part)
        if len(lines) > n_lines:
            break
    if len(lines) > n_lines:
        last = lines[n_lines - 1]
        while last and draw.textlength(last + "…", font) > width:
            last = last[:-1]
        lines = [*lines[: n_lines - 1], last + "…"]
    return lines


def _fitting(draw: ImageDraw.ImageDraw, word: str, font: Font, width: int) -> list[str]:
    """A word cut into pieces that fit, for file names and other words without spaces."""
    pieces = [""]
    for sign in word[:2000]:
        if draw.textlength(pieces[-1] + sign, font) > width:
            pieces.append("")
        pieces[-1] += sign
    return pieces
