"""One item for an explanation: its places in the picture or text, and its vector as a sum over them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.decoders import fitted_box
from embedsearch.errors import UsageError
from embedsearch.pipeline.content import load_image, load_text
from embedsearch.pipeline.explain.explanation import Side
from embedsearch.pipeline.explain.parts import MOST_SIDE, Array, Parts, joined, parts_of, spread_grid
from embedsearch.pooling.shares import Places
from embedsearch.types import CLASS, Modality

if TYPE_CHECKING:
    from embedsearch.backbones.windows import TokenSpan
    from embedsearch.pipeline.encode import Encoder
    from embedsearch.types import Features

_APOSTROPHES = re.compile(r"\w+(?:['\u2019]\w+)+")


def side_of(
    encoder: Encoder, content: Any, label: str, *, part: int | None = None
) -> tuple[Side, Parts, tuple[str, ...]]:
    """An item's places, its parts, and what there is to know of them.

    part: number of the chunk of a text. Raises ItemError when it cannot be read, UsageError when the layer or pooling
    has no places.
    """
    features, spans = encoder.features(content, part=part)
    views = [[_places(layer) for layer in layers] for layers in features]
    if max(len(places.values) for layers in views for places in layers) == 1:
        raise UsageError(
            f"layer {' and '.join(encoder.recipe.layers)!r} gives one vector an item, of which no place is a part; an "
            "index built over a layer of maps or tokens can be explained (`embedsearch layers` lists them)"
        )
    if encoder.recipe.modality is Modality.IMAGE:
        return _picture(encoder, content, label, views)
    return _text(encoder, content, label, views[0], spans)


def _places(features: Features) -> Places:
    values = features.values[0].float().cpu().numpy().astype(np.float64)
    roles = None if features.roles is None else features.roles[0].cpu().numpy()
    if features.mask is not None:
        real = features.mask[0].cpu().numpy()
        values, roles = values[real], None if roles is None else roles[real]
    return Places(values, features.grid, roles)


def _picture(
    encoder: Encoder, content: Any, label: str, views: list[list[Places]]
) -> tuple[Side, Parts, tuple[str, ...]]:
    recipe = encoder.recipe
    layouts = [[_layout(places, recipe.layers) for places in layers] for layers in views]
    finest = [grid for layers in layouts for grid, _ in layers]
    cells = joined(max(h for h, _ in finest), MOST_SIDE), joined(max(w for _, w in finest), MOST_SIDE)
    has_class = any(first for layers in layouts for _, first in layers)
    n_cells = cells[0] * cells[1]
    n_places = n_cells + has_class
    spread = []
    for number, (layers, layout) in enumerate(zip(views, layouts, strict=True)):
        # mirror images come after all scales
        mirrored = recipe.flip and number >= len(views) // 2
        spread.append(
            [
                (places, _at(grid, cells, n_places, first, mirrored))
                for places, (grid, first) in zip(layers, layout, strict=True)
            ]
        )
    image, _ = load_image(content)
    notes: tuple[str, ...] = ()
    if recipe.size is None:
        box = (0.0, 0.0, float(image.width), float(image.height))
        notes = (f"preprocess {recipe.preprocess} fits pictures itself: places are laid over the whole of them",)
    else:
        box = fitted_box(image.width, image.height, recipe.size, recipe.fit)
    side = Side(
        label,
        n_places,
        grid=cells,
        box=box,
        size=image.size,
        picture=image,
        words=("",) * n_cells + (("the class token",) if has_class else ()),
    )
    return side, parts_of(spread, recipe, encoder.postprocess), notes


def _layout(places: Places, layers: tuple[str, ...]) -> tuple[tuple[int, int], bool]:
    """The grid of a picture's places, and whether a class token comes before it."""
    if places.grid is not None:
        return places.grid, False
    n = len(places.values)
    first = places.roles is not None and places.roles[0] == CLASS
    side = round((n - first) ** 0.5)
    if side * side != n - first and places.roles is None:
        first, side = True, round((n - 1) ** 0.5)
    if side * side != n - first:
        raise UsageError(
            f"layer {' and '.join(layers)!r} gives {n} places that are no square map, so that it is not known where in "
            "the picture they are; an index built over a layer of maps can be explained"
        )
    return (side, side), bool(first)


def _at(grid: tuple[int, int], cells: tuple[int, int], n_places: int, first: bool, mirrored: bool) -> Array:
    inside = spread_grid(grid, cells, mirrored=mirrored)
    at = np.zeros((n_places, inside.shape[1] + first))
    at[: inside.shape[0], first:] = inside
    if first:
        at[-1, 0] = 1
    return at


def _text(
    encoder: Encoder, content: Any, label: str, layers: list[Places], spans: list[TokenSpan] | None
) -> tuple[Side, Parts, tuple[str, ...]]:
    text, _ = load_text(content)
    n_tokens = {len(places.values) for places in layers}
    if len(n_tokens) > 1 or (spans is not None and n_tokens != {len(spans)}):
        raise UsageError(
            f"layer {' and '.join(encoder.recipe.layers)!r} does not give one activation a token; an index built over "
            "a layer of tokens can be explained"
        )
    words, places, owners = _words(text, spans, n_tokens.pop())
    at = np.zeros((len(words), len(owners)))
    at[owners, np.arange(len(owners))] = 1
    known = places[places[:, 0] >= 0]
    read = (int(known.min()), int(known.max())) if len(known) else None
    notes: tuple[str, ...] = ()
    if spans is None:
        notes = ("the network tells nothing of its tokens: they are numbered",)
    elif read is not None and text[read[1] :].strip():
        notes = (f"of {label!r} {len(text[read[1] :].strip()):,} characters after {read[1]:,} were not read",)
    side = Side(label, len(words), text=text, words=words, spans=places, read=read)
    return side, parts_of([[(own, at) for own in layers]], encoder.recipe, encoder.postprocess), notes


def _words(
    text: str, spans: list[TokenSpan] | None, n_tokens: int
) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.int64]]:
    """The words of a text, their spans, and to which of them each token belongs; special tokens are words as well,
    the same ones of several windows one."""
    if spans is None:
        numbers = np.arange(n_tokens)
        return tuple(f"token {n + 1}" for n in numbers), np.full((n_tokens, 2), -1, np.int64), numbers
    # what tokenizers cut at apostrophes is one word to a reader
    cut = {at: match.start() for match in _APOSTROPHES.finditer(text) for at in range(*match.span())}
    order: dict[object, int] = {}
    found: list[list[int]] = []
    names: list[str] = []
    owners = []
    for span in spans:
        key: object = ("special", span.token) if span.word is None else span.word
        if span.word is not None and span.start in cut:
            key = ("joined", cut[span.start])
        if key not in order:
            order[key] = len(names)
            names.append(span.token)
            found.append([-1, -1])
        word = order[key]
        owners.append(word)
        if span.word is not None and span.end > span.start:
            begin, end = found[word]
            found[word] = [span.start if begin < 0 else min(begin, span.start), max(end, span.end)]
    for word, (begin, end) in enumerate(found):
        if begin >= 0:
            names[word] = text[begin:end]
    return tuple(names), np.array(found, np.int64).reshape(-1, 2), np.array(owners)
