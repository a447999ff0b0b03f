"""Why two items are alike, as one picture: both side by side, shaded by what adds to the score, matches joined."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

from embedsearch.presenters.fonts import font
from embedsearch.presenters.sheet import on_one_line, wrapped
from embedsearch.presenters.why import LINE_COLOURS, Box, Picture, Text, Why, colour, has_negative, most_share, pieces

_PANEL, _GAP, _MARGIN = 420, 96, 28  # pixels
_THUMB = 64
_WHITE, _INK, _GREY, _FAINT = (255, 255, 255), (25, 28, 34), (105, 110, 120), (222, 225, 230)


def draw(why: Why) -> Image.Image:
    """The picture, RGB."""
    width = 2 * _MARGIN + 2 * _PANEL + _GAP
    most = most_share(why)
    if isinstance(why.left, Picture) and isinstance(why.right, Picture):
        body = _pictures(why, why.left, why.right, most)
    else:
        body = _texts(why, most)
    notes = [line for note in why.notes for line in _wrap(note, 13, width - 2 * _MARGIN, 3)]
    title, subtitle = _wrap(why.title, 24, width - 2 * _MARGIN, 1), _wrap(why.subtitle, 13, width - 2 * _MARGIN, 2)
    head = _MARGIN + 36 + 18 * len(subtitle) + 14
    foot = 58 + 18 * len(notes) + _MARGIN // 2
    sheet = Image.new("RGB", (width, head + body.height + foot), _WHITE)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN - 6), title[0], fill=_INK, font=font(24, bold=True))
    for n, line in enumerate(subtitle):
        pen.text((_MARGIN, _MARGIN + 30 + 18 * n), line, fill=_GREY, font=font(13))
    sheet.paste(body, (_MARGIN, head))
    _legend(sheet, pen, _MARGIN, head + body.height + 14, why, most)
    for n, line in enumerate(notes):
        pen.text((_MARGIN, head + body.height + 54 + 18 * n), line, fill=_GREY, font=font(13))
    return sheet


def overlaid(side: Picture, most: float) -> tuple[Image.Image, Box, float]:
    """The picture under its heat; what was not read is dimmed, and padding that was read is paper.

    Returns it, what it shows in pixels of the picture (left, top, right, bottom), and drawn pixels to one of those.
    """
    width, height = side.image.size
    left, top = min(0.0, side.box[0]), min(0.0, side.box[1])
    right, bottom = max(float(width), side.box[2]), max(float(height), side.box[3])
    scale = _PANEL / max(right - left, bottom - top)
    canvas = Image.new("RGB", (round((right - left) * scale), round((bottom - top) * scale)), _WHITE)
    small = side.image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.LANCZOS)
    canvas.paste(small, (round(-left * scale), round(-top * scale)))
    dimmed = Image.blend(ImageEnhance.Color(canvas).enhance(0.1), Image.new("RGB", canvas.size, (205, 205, 210)), 0.65)
    x0, y0 = round((side.box[0] - left) * scale), round((side.box[1] - top) * scale)
    square = max(1, round((side.box[2] - side.box[0]) * scale)), max(1, round((side.box[3] - side.box[1]) * scale))
    strength = np.clip(side.heat / most, -1, 1).astype(np.float32)
    smooth = np.asarray(Image.fromarray(strength).resize(square, Image.Resampling.BICUBIC)).clip(-1, 1)
    table = np.array([colour(step / 100) for step in range(-100, 101)], np.uint8)
    heat = table[np.rint(smooth * 100).astype(int) + 100]
    seen = canvas.crop((x0, y0, x0 + square[0], y0 + square[1]))
    toned = np.asarray(ImageEnhance.Color(seen).enhance(0.35), np.float32)
    alpha = (0.12 + 0.63 * np.abs(smooth))[:, :, None]
    mixed = Image.fromarray(np.rint(toned * (1 - alpha) + heat * alpha).astype(np.uint8))
    dimmed.paste(mixed, (x0, y0))
    return dimmed, (left, top, right, bottom), scale


def _pictures(why: Why, left: Picture, right: Picture, most: float) -> Image.Image:
    lines = why.lines
    panels = [overlaid(side, most) for side in (left, right)]
    tall = max(panel.height for panel, _, _ in panels)
    n_rows = 1 if len(lines) <= 4 else 2
    strip = 40 + n_rows * (_THUMB + 14) if lines else 0
    body = Image.new("RGB", (2 * _PANEL + _GAP, 24 + tall + strip), _WHITE)
    pen = ImageDraw.Draw(body)
    starts = []
    for number, (side, (panel, _, _)) in enumerate(zip((left, right), panels, strict=True)):
        x = number * (_PANEL + _GAP) + (_PANEL - panel.width) // 2
        y = 24 + (tall - panel.height) // 2
        name = ("asked: " if number == 0 else "item: ") + side.label
        pen.text((number * (_PANEL + _GAP), 0), on_one_line(pen, name, font(14), _PANEL), fill=_INK, font=font(14))
        body.paste(panel, (x, y))
        pen.rectangle((x - 1, y - 1, x + panel.width, y + panel.height), outline=_FAINT)
        starts.append((x, y))
    widest = max((line.share for line in lines), default=1.0) or 1.0
    ends = []
    for number, line in enumerate(lines):
        boxes = []
        for end, (_, shown, scale), (x, y) in zip((line.left, line.right), panels, starts, strict=True):
            assert not isinstance(end, str)
            edges = [(end[i] - shown[i % 2]) * scale + (x, y)[i % 2] for i in range(4)]
            boxes.append((edges[0], edges[1], edges[2], edges[3]))
        ends.append((boxes, LINE_COLOURS[number % len(LINE_COLOURS)], 2 + round(3 * line.share / widest)))
    for number, (boxes, tint, thick) in enumerate(ends):
        (x0, y0), (x1, y1), (x2, y2) = curve(_middle(boxes[0]), _middle(boxes[1]), number, len(ends))
        along = [n / 40 for n in range(41)]
        points = [
            (
                (1 - t) ** 2 * x0 + 2 * t * (1 - t) * x1 + t * t * x2,
                (1 - t) ** 2 * y0 + 2 * t * (1 - t) * y1 + t * t * y2,
            )
            for t in along
        ]
        pen.line(points, fill=_WHITE, width=thick + 3, joint="curve")
        pen.line(points, fill=tint, width=thick, joint="curve")
    for number, (boxes, tint, _) in enumerate(ends, 1):
        for box in boxes:
            pen.rectangle(box, outline=_WHITE, width=4)
            pen.rectangle(box, outline=tint, width=2)
            _badge(pen, badge_at(box), str(number), tint)
    if lines:
        told = f"the strongest pairs of regions, together {why.together}"
        pen.text((0, 24 + tall + 14), told, fill=_INK, font=font(14))
        _strip(body, pen, why, left, right, 24 + tall + 14)
    return body


def curve(
    start: tuple[float, float], end: tuple[float, float], number: int, n_lines: int
) -> tuple[tuple[float, float], tuple[float, float], tuple[float, float]]:
    """The points of a quadratic Bezier curve, bent by its number: lines in one row do not cover one another."""
    bend = (number - (n_lines - 1) / 2) * 16
    return start, ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 + bend), end


def _strip(body: Image.Image, pen: ImageDraw.ImageDraw, why: Why, left: Picture, right: Picture, top: int) -> None:
    """The regions of each pair as they are, without colours on them."""
    lines = why.lines
    per_row = -(-len(lines) // 2) if len(lines) > 4 else max(len(lines), 1)
    step = body.width // max(per_row, 4)
    for number, line in enumerate(lines):
        x, y = number % per_row * step, top + 28 + number // per_row * (_THUMB + 14)
        tint = LINE_COLOURS[number % len(LINE_COLOURS)]
        _badge(pen, (x + 11, y + 12), str(number + 1), tint)
        pen.text((x, y + _THUMB - 17), why.told(line.share), fill=_INK, font=font(12))
        for n, (side, end) in enumerate(((left, line.left), (right, line.right))):
            assert not isinstance(end, str)
            at = x + 42 + n * (_THUMB + 6)
            body.paste(region(side.image, end).resize((_THUMB, _THUMB), Image.Resampling.BICUBIC), (at, y))
            pen.rectangle((at - 1, y - 1, at + _THUMB, y + _THUMB), outline=tint, width=1)


def region(image: Image.Image, box: Box) -> Image.Image:
    """A box of a picture with half of it around, white beyond the edge."""
    across, down = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    edges = (round(box[0] - across), round(box[1] - down), round(box[2] + across), round(box[3] + down))
    cut = Image.new("RGB", (max(edges[2] - edges[0], 1), max(edges[3] - edges[1], 1)), _WHITE)
    cut.paste(image, (-edges[0], -edges[1]))
    return cut


def _texts(why: Why, most: float) -> Image.Image:
    columns = []
    for number, side in enumerate((why.left, why.right)):
        assert isinstance(side, Text)
        name = ("asked: " if number == 0 else "item: ") + side.label
        columns.append((_wrap(name, 14, _PANEL, 1)[0], _shaded(side, most)))
    tall = max(panel.height for _, panel in columns)
    body = Image.new("RGB", (2 * _PANEL + _GAP, 26 + tall + (44 + 26 * len(why.lines) if why.lines else 0)), _WHITE)
    pen = ImageDraw.Draw(body)
    for number, (name, panel) in enumerate(columns):
        x = number * (_PANEL + _GAP)
        pen.text((x, 0), name, fill=_GREY, font=font(14))
        body.paste(panel, (x, 26))
    if why.lines:
        y = 26 + tall + 14
        told = f"the strongest pairs of words, together {why.together}"
        pen.text((0, y), told, fill=_INK, font=font(14))
        widest = max(line.share for line in why.lines) or 1.0
        for number, line in enumerate(why.lines):
            row, tint = y + 28 + 26 * number, LINE_COLOURS[number % len(LINE_COLOURS)]
            _badge(pen, (11, row + 9), str(number + 1), tint)
            left, right = (_wrap(str(end), 15, 250, 1)[0] for end in (line.left, line.right))
            pen.text((300 - pen.textlength(left, font(15)), row), left, fill=_INK, font=font(15))
            pen.line(((312, row + 10), (352, row + 10)), fill=tint, width=3)
            pen.text((364, row), right, fill=_INK, font=font(15))
            pen.rectangle((630, row + 3, 630 + round(200 * line.share / widest), row + 15), fill=tint)
            pen.text((840, row), why.told(line.share), fill=_INK, font=font(14))
    return body


def _shaded(side: Text, most: float, n_lines: int = 22) -> Image.Image:
    """A text with its words on coloured ground; what was not read is grey and struck out."""
    face, step = font(16), 27
    panel = Image.new("RGB", (_PANEL, step * n_lines), _WHITE)
    pen = ImageDraw.Draw(panel)
    x, row = 2.0, 0
    for piece, share, was_read in pieces(side):
        for sign in [piece] if share is not None else piece.replace("\n", " ").split(" "):
            space = 5 if share is None else 0
            width = pen.textlength(sign, face)
            if x + width > _PANEL - 4 and x > 2:
                x, row = 2.0, row + 1
            if row >= n_lines - 1 and x + width > _PANEL - 30:
                pen.text((x, row * step + 3), "…", fill=_INK, font=face)
                return panel
            ink = _INK if was_read else (165, 168, 175)
            if share is not None:
                strength = share / most
                pen.rounded_rectangle((x - 2, row * step + 1, x + width + 1, row * step + 23), 4, fill=colour(strength))
                ink = _WHITE if abs(strength) > 0.72 else _INK
            pen.text((x, row * step + 3), sign, fill=ink, font=face)
            if not was_read and sign:
                pen.line(((x, row * step + 13), (x + width, row * step + 13)), fill=ink)
            x += width + space
    return panel.crop((0, 0, _PANEL, step * (row + 1)))


def _legend(sheet: Image.Image, pen: ImageDraw.ImageDraw, x: int, y: int, why: Why, most: float) -> None:
    width, negative = 240, has_negative(why)
    for n in range(width):
        strength = n / width * 2 - 1 if negative else n / width
        pen.line(((x + n, y), (x + n, y + 12)), fill=colour(strength))
    pen.rectangle((x, y, x + width, y + 12), outline=_FAINT)
    low = why.told(-most, 2) if negative else "0"
    pen.text((x, y + 16), low, fill=_GREY, font=font(12))
    high = why.told(most, 2)
    pen.text((x + width - pen.textlength(high, font(12)), y + 16), high, fill=_GREY, font=font(12))
    pen.text((x + width + 16, y - 2), why.legend, fill=_GREY, font=font(13))


def _badge(pen: ImageDraw.ImageDraw, at: tuple[float, float], told: str, tint: tuple[int, int, int]) -> None:
    pen.ellipse((at[0] - 11, at[1] - 11, at[0] + 11, at[1] + 11), fill=tint, outline=_WHITE, width=2)
    pen.text(at, told, fill=_WHITE, font=font(13, bold=True), anchor="mm")


def badge_at(box: Box) -> tuple[float, float]:
    """Where the number of a region stands: in its middle, or at the corner of one that it would cover."""
    if box[2] - box[0] >= 36 and box[3] - box[1] >= 36:
        return _middle(box)
    return max(box[0] - 5, 11.0), max(box[1] - 5, 11.0)


def _middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _wrap(text: str, size: int, width: int, n_lines: int) -> list[str]:
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    return wrapped(pen, text, font(size), width, n_lines)
