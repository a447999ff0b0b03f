"""Small pictures of items, within a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from embedsearch.decoders import decode_image
from embedsearch.errors import ItemError
from embedsearch.sources import read_bytes
from embedsearch.types import Progress

SIDE = 64  # pixels
MOST_BYTES = 32 * 2**20  # of all of them in a page
_AT_ONCE = 256


def thumbnails(uris: Sequence[str], seed: int, progress: Progress) -> tuple[list[str], int]:
    """A data URI for each (WebP), "" where there is none; and how many pictures cannot be read.

    Where MOST_BYTES would not be enough, points drawn with the seed go without.
    """
    found = [""] * len(uris)
    n_bytes = n_unreadable = 0
    order = np.random.default_rng(seed).permutation(len(uris)).tolist()
    progress.stage("thumbnails", len(uris))
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(order), _AT_ONCE):
            some = order[first : first + _AT_ONCE]
            for place, made in zip(some, pool.map(lambda n: _thumbnail(uris[n]), some), strict=True):
                if made is None:
                    n_unreadable += 1
                elif n_bytes + len(made) <= MOST_BYTES:
                    found[place], n_bytes = made, n_bytes + len(made)
            progress.advance(len(some))
            if n_bytes > MOST_BYTES - 2**14:
                break
    return found, n_unreadable


def _thumbnail(uri: str) -> str | None:
    try:
        image: Image.Image = decode_image(read_bytes(uri))
    except (ItemError, OSError):
        return None
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=60)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
