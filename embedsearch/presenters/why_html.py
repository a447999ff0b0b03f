"""Why two items are alike, as one self-contained HTML file without scripts."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image

from embedsearch.presenters.why import (
    LINE_COLOURS,
    Box,
    Picture,
    Text,
    Why,
    colour,
    has_negative,
    most_share,
    pieces,
)
from embedsearch.presenters.why_drawing import badge_at, curve, overlaid, region

_STYLE = """
body { font: 15px/1.6 system-ui, "DejaVu Sans", sans-serif; color: #191c22; max-width: 1000px; margin: 2rem auto;
       padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 } .faint { color: #696e78; font-size: .9rem } svg { width: 100%; height: auto }
.two { display: grid; grid-template-columns: 1fr 1fr; column-gap: 10.26%; overflow-wrap: anywhere }
mark { border-radius: 4px; padding: 1px 2px } s { color: #a5a8af } table { border-spacing: .8rem .25rem }
td.n span { color: #fff; border-radius: 1rem; padding: 0 .5rem; font-weight: bold }
td img { display: block; border: 1px solid #dee1e6 } .bar { height: 12px; min-width: 2px } p { margin: .4rem 0 }
.legend { width: 240px; height: 12px; border: 1px solid #dee1e6; margin-top: 1.2rem }
g.pair { fill: none } g.pair:hover rect.on { stroke-width: 6 } g.pair:hover path.on { stroke-width: 9 }
g.badges { pointer-events: none; font-weight: bold }
"""
_PANEL, _GAP = 420, 96  # units of the drawing; the columns above it keep the same parts of the width


def as_html(why: Why) -> str:
    """The page."""
    most, negative = most_share(why), has_negative(why)
    if isinstance(why.left, Picture) and isinstance(why.right, Picture):
        body = _pictures(why, why.left, why.right, most)
    else:
        assert isinstance(why.left, Text) and isinstance(why.right, Text)
        body = f'<div class="two">{_text(why, "asked", why.left, most)}{_text(why, "item", why.right, most)}</div>'
    stops = ", ".join(_css(colour(step / 10)) for step in range(-10 if negative else 0, 11))
    low = why.told(-most, 2) if negative else "0"
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(why.title)}</title>'
        f'<style>{_STYLE}</style>\n<h1>{escape(why.title)}</h1>\n<p class="faint">{escape(why.subtitle)}</p>\n'
        f"{body}\n{_table(why)}\n"
        f'<div class="legend" style="background: linear-gradient(90deg, {stops})"></div>'
        f'<p class="faint">{low} to {why.told(most, 2)}: {why.legend}</p>\n'
        + "".join(f'<p class="faint">{escape(note)}</p>\n' for note in why.notes)
        + "</html>\n"
    )


def _pictures(why: Why, left: Picture, right: Picture, most: float) -> str:
    panels = [overlaid(side, most) for side in (left, right)]
    tall = max(panel.height for panel, _, _ in panels)
    drawn, places = [], []
    for number, (side, (panel, shown, scale)) in enumerate(zip((left, right), panels, strict=True)):
        x, y = number * (_PANEL + _GAP) + (_PANEL - panel.width) / 2, (tall - panel.height) / 2
        drawn.append(
            f'<image x="{x}" y="{y}" width="{panel.width}" height="{panel.height}" href="{_data(panel)}">'
            f"<title>{escape(side.label)}</title></image>"
        )
        places.append((x - shown[0] * scale, y - shown[1] * scale, scale))
    widest = max((line.share for line in why.lines), default=1.0) or 1.0
    all_badges = ""
    for number, line in enumerate(why.lines):
        tint = _css(LINE_COLOURS[number % len(LINE_COLOURS)])
        ends, numbers, boxes = [], [], ""
        for end, (x, y, scale) in zip((line.left, line.right), places, strict=True):
            assert not isinstance(end, str)
            ends += [x + (end[0] + end[2]) / 2 * scale, y + (end[1] + end[3]) / 2 * scale]
            numbers.append(badge_at((x + end[0] * scale, y + end[1] * scale, x + end[2] * scale, y + end[3] * scale)))
            at = f'x="{x + end[0] * scale:.1f}" y="{y + end[1] * scale:.1f}"'
            size = f'width="{(end[2] - end[0]) * scale:.1f}" height="{(end[3] - end[1]) * scale:.1f}"'
            boxes += f'<rect {at} {size} fill="transparent" stroke="white" stroke-width="5"/>'
            boxes += f'<rect class="on" {at} {size} stroke="{tint}" stroke-width="2.5"/>'
        (x0, y0), (x1, y1), (x2, y2) = curve((ends[0], ends[1]), (ends[2], ends[3]), number, len(why.lines))
        way = f'd="M {x0:.1f} {y0:.1f} Q {x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f}"'
        all_badges += "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="11" fill="{tint}" stroke="white" stroke-width="2"/>'
            f'<text x="{x:.1f}" y="{y + 4.5:.1f}" text-anchor="middle" font-size="13" fill="white">{number + 1}</text>'
            for x, y in numbers
        )
        thick = 2 + 3 * line.share / widest
        drawn.append(
            f'<g class="pair"><title>{number + 1}: {why.told(line.share)}</title>'
            f'<path {way} stroke="white" stroke-width="{thick + 3:.1f}"/>'
            f'<path class="on" {way} stroke="{tint}" stroke-width="{thick:.1f}"/>{boxes}</g>'
        )
    drawn.append(f'<g class="badges">{all_badges}</g>')
    names = f"<div>asked: {escape(left.label)}</div><div>item: {escape(right.label)}</div>"
    return f'<div class="two">{names}</div><svg viewBox="0 0 {2 * _PANEL + _GAP} {tall}">{"".join(drawn)}</svg>'


def _text(why: Why, role: str, side: Text, most: float) -> str:
    shown = []
    for piece, share, was_read in pieces(side):
        if share is None:
            shown.append(escape(piece) if was_read else f"<s>{escape(piece)}</s>")
            continue
        ink = "#fff" if abs(share / most) > 0.72 else "#191c22"
        shown.append(
            f'<mark style="background: {_css(colour(share / most))}; color: {ink}" title="{why.told(share, 2)}">'
            f"{escape(piece)}</mark>"
        )
    return f'<div><div class="faint">{role}: {escape(side.label)}</div><p>{"".join(shown)}</p></div>'


def _table(why: Why) -> str:
    if not why.lines:
        return "<p>No pair adds to the score.</p>"
    widest = max(line.share for line in why.lines) or 1.0
    rows = []
    for number, line in enumerate(why.lines):
        tint = _css(LINE_COLOURS[number % len(LINE_COLOURS)])
        ends = "".join(f"<td>{_end(side, end)}</td>" for side, end in ((why.left, line.left), (why.right, line.right)))
        bar = f'<div class="bar" style="background: {tint}; width: {200 * line.share / widest:.0f}px"></div>'
        rows.append(
            f'<tr><td class="n"><span style="background: {tint}">{number + 1}</span></td>{ends}'
            f"<td>{bar}</td><td>{why.told(line.share)}</td></tr>"
        )
    return f"<p>The strongest pairs, together {why.together}:</p><table>{''.join(rows)}</table>"


def _end(side: Picture | Text, end: Box | str) -> str:
    if isinstance(side, Picture) and not isinstance(end, str):
        return f'<img width="64" height="64" alt="" src="{_data(region(side.image, end).resize((64, 64)))}">'
    return escape(str(end))


def _data(image: Image.Image) -> str:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}"


def _css(tint: tuple[int, int, int]) -> str:
    return f"rgb({tint[0]} {tint[1]} {tint[2]})"
