"""Why two items are alike: what is shown of it, as a picture or as a page, and in which colours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedsearch.errors import UsageError
from embedsearch.presenters.out_path import check_writable

Box = tuple[float, float, float, float]

# one for each pair, distinct for the colour-blind as well: Okabe & Ito (2008), and two more
LINE_COLOURS = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0), (90, 60, 160),
    (110, 110, 110),
)  # fmt: skip
_WARM = ((255, 246, 214), (254, 190, 90), (240, 98, 40), (160, 15, 30))  # adds, from little to much
_COLD = ((228, 240, 250), (130, 185, 225), (35, 95, 170))  # takes away
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".html", ".htm", ".npz")


@dataclass(frozen=True, slots=True)
class Picture:
    """An upright RGB picture and what its places add. box: the square that was read, in its pixels, which may reach
    beyond it. heat: H x W shares of the whole, over that square. elsewhere: the share that is nowhere in it."""

    label: str
    image: Image.Image
    box: Box
    heat: NDArray[np.float64]
    elsewhere: float = 0.0


@dataclass(frozen=True, slots=True)
class Text:
    """A text and what its words add. words: begin, end, word and share of the whole; begin is -1 for what does not
    stand in the text. read: the characters that were read, None where that is not known."""

    label: str
    text: str
    words: tuple[tuple[int, int, str, float], ...]
    read: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """Two boxes or words that match, and their share of the whole."""

    left: Box | str
    right: Box | str
    share: float


@dataclass(frozen=True, slots=True)
class Why:
    """All that is drawn. lines: the strongest of n_pairs pairs. in_per_cent: whether shares are parts of the whole, or
    numbers in the unit of x . y."""

    title: str
    subtitle: str
    left: Picture | Text
    right: Picture | Text
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    n_pairs: int = 1
    in_per_cent: bool = True

    @property
    def together(self) -> str:
        """What the strongest pairs make of the whole, and what so many would make if all pairs were alike."""
        share = sum(line.share for line in self.lines)
        if not self.in_per_cent:
            return self.told(share)
        equal = len(self.lines) / self.n_pairs
        return f"{share:.1%} of the whole (as many of {self.n_pairs:,} equal ones: {equal:.1%})"

    @property
    def legend(self) -> str:
        """What the colours tell."""
        told = "what a place adds to x · y" + (", of the whole" if self.in_per_cent else "")
        return told + ("; blue takes away" if has_negative(self) else "")

    def told(self, share: float, digits: int = 1) -> str:
        """A share as it is written; digits: of per cents."""
        return f"{share:.{digits}%}" if self.in_per_cent else f"{share:.{digits + 3}f}"


def check_path(path: Path) -> None:
    """Raises UsageError when nothing can be written to `path`."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"{path} must end in one of {', '.join(SUFFIXES)}")
    check_writable(path, str(path))


def most_share(why: Why) -> float:
    """The share that is shown in the strongest colour, of both sides alike: few single places exceed it."""
    shares = [shares_of(side) for side in (why.left, why.right)]
    sizes = np.abs(np.concatenate(shares)) if shares else np.zeros(1)
    return float(np.quantile(sizes, 0.995)) or 1.0


def shares_of(side: Picture | Text) -> NDArray[np.float64]:
    """The shares of all places."""
    if isinstance(side, Picture):
        return side.heat.reshape(-1)
    return np.array([share for *_, share in side.words])


def has_negative(why: Why) -> bool:
    """Whether colours for what takes away are needed."""
    shares = np.concatenate([shares_of(why.left), shares_of(why.right)])
    return bool(shares.min(initial=0) < -0.02 * np.abs(shares).max(initial=0))


def colour(strength: float) -> tuple[int, int, int]:
    """Of a share, -1..1 of the strongest one."""
    stops = _WARM if strength >= 0 else _COLD
    at = min(abs(strength), 1.0) * (len(stops) - 1)
    low = min(int(at), len(stops) - 2)
    mixed = np.array(stops[low]) * (1 - (at - low)) + np.array(stops[low + 1]) * (at - low)
    red, green, blue = (round(float(value)) for value in mixed)
    return red, green, blue


def pieces(side: Text) -> list[tuple[str, float | None, bool]]:
    """The text in order as (piece, share or None between words, whether it was read), special tokens at its ends."""
    inside = sorted(word for word in side.words if word[0] >= 0)
    outside = [word for word in side.words if word[0] < 0]
    found: list[tuple[str, float | None, bool]] = []
    read = side.read or (0, len(side.text))
    at = 0
    for begin, end, _, share in inside:
        if begin > at:
            found.append((side.text[at:begin], None, at >= read[0] and begin <= read[1]))
        if begin >= at:
            found.append((side.text[begin:end], share, True))
            at = end
    if at < len(side.text) and inside:
        found.append((side.text[at:], None, at < read[1]))
    elif not inside:
        found.append((side.text, None, True))
    before = [(word, share, True) for _, _, word, share in outside[:1]]
    after = [(word, share, True) for _, _, word, share in outside[1:]]
    return [*before, *([(" ", None, True)] if before else []), *found, (" ", None, True), *after]
