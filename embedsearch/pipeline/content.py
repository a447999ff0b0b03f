"""From what a user holds (path, bytes, picture, array, text) to what a backbone prepares."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from embedsearch.decoders import check_text, decode_image, decode_text, fit_image, to_rgb
from embedsearch.errors import ItemError
from embedsearch.sources import read_bytes
from embedsearch.types import Item, Modality

_HASH_BYTES = 16


def load_image(content: Any, size: int, fit: str) -> tuple[Any, str]:
    """A picture as uint8 size x size x 3, and the hash of its content.

    content: a path or URL, encoded bytes, a PIL image, or an array H x W, H x W x 3 or H x W x 4 of
    uint8 (or of floats in 0..1). Raises ItemError with the reason.
    """
    if isinstance(content, str | Path):
        content = read_bytes(str(content))
    if isinstance(content, bytes | bytearray):
        digest = _hash(bytes(content))
        image = decode_image(bytes(content))
    else:
        image = to_rgb(content) if isinstance(content, Image.Image) else to_rgb(_from_array(content))
        digest = _hash(image.tobytes())
    return fit_image(image, size, fit), digest


def load_text(content: Any) -> tuple[str, str]:
    """A text that is not empty, and the hash of it. content: str, or UTF-8 bytes."""
    if isinstance(content, bytes | bytearray):
        text = decode_text(bytes(content))
    elif isinstance(content, str):
        text = check_text(content)
    else:
        raise ItemError(f"a text is needed, not {type(content).__name__}")
    return text, _hash(text.encode())


def content_of(item: Item, modality: Modality) -> Any:
    """What `load_image` or `load_text` takes for an item of a source."""
    if item.content is not None:
        return item.content
    return item.uri if modality is Modality.IMAGE else read_bytes(item.uri)


def _from_array(content: Any) -> Image.Image:
    array = np.asarray(content)
    shape_fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not shape_fits or array.size == 0:
        raise ItemError(f"a picture must be H x W, H x W x 3 or H x W x 4, not {type(content).__name__} {array.shape}")
    if np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise ItemError("a picture of floats must lie in 0..1")
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ItemError(f"a picture must be uint8 or float, not {array.dtype}")
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=_HASH_BYTES).hexdigest()
