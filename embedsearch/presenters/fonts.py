"""Fonts of the system that know more letters than Pillow's own, where there are any."""

from __future__ import annotations

from functools import cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PLAIN = ("NotoSansCJK-Regular.ttc", "DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")
_BOLD = ("NotoSansCJK-Bold.ttc", "DejaVuSans-Bold.ttf", "NotoSans-Bold.ttf", "arialbd.ttf")


@cache
def font(size: int, *, bold: bool = False) -> Font:
    """A font of `size` pixels."""
    for name in (*(_BOLD if bold else ()), *_PLAIN):
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
