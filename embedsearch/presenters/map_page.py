"""A plane of points as one web page that needs nothing else."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Categories:
    """codes: int n, which of `names` each point has. n_own: so many have a colour of their own; the rest is grey."""

    column: str
    names: list[str]
    codes: NDArray[np.int64]
    n_own: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """values: float n, NaN where there is none. least, most: where the scale of colours begins and ends."""

    column: str
    values: NDArray[np.float32]
    least: float
    most: float


def map_page(
    title: str,
    told: str,
    xy: NDArray[np.float32],
    ids: Sequence[str],
    texts: Sequence[str],
    thumbnails: Sequence[str],
    colour: Categories | Numbers | None,
) -> str:
    """The page. xy: float32 n x 2. thumbnails: data URIs, or "" where a point has none. Nothing in ids, texts or names
    is read as code: they are data of the page, and shown as text."""
    data: dict[str, Any] = {
        "title": title,
        "told": told,
        "ids": list(ids),
        "texts": list(texts),
        "thumbs": list(thumbnails),
        "n_thumbs": sum(map(bool, thumbnails)),
        "xy": _floats(xy),
        "colour": _colour(colour),
    }
    # "</script>" and "<!--" would end or change the element that the data lies in
    plain = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    page = files("embedsearch.presenters").joinpath("map_page.html").read_text("utf-8")
    head, _, tail = page.partition("__DATA__")
    return head.replace("__TITLE__", html.escape(title)) + plain + tail


def _floats(x: NDArray[np.float32]) -> str:
    return base64.b64encode(np.ascontiguousarray(x, "<f4").tobytes()).decode()


def _colour(colour: Categories | Numbers | None) -> dict[str, Any] | None:
    if colour is None:
        return None
    if isinstance(colour, Numbers):
        ends = {"least": colour.least, "most": colour.most}
        return {"column": colour.column, "values": _floats(colour.values), **ends}
    return {
        "column": colour.column,
        "names": colour.names,
        "codes": colour.codes.tolist(),
        "n_own": colour.n_own,
    }
