"""From what a user holds (path, bytes, picture, array, text) to what a backbone prepares."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from embedsearch.config import Recipe
from embedsearch.decoders import check_text, decode_image, decode_text, fit_image, to_rgb
from embedsearch.errors import ItemError, SourceError
from embedsearch.sources import read_bytes, read_matrix
from embedsearch.types import Item, Modality

_HASH_BYTES = 16


@dataclass(frozen=True, slots=True)
class Loaded:
    """One input, read. views: what the backbone prepares, one for each view of it (its scales and its
    mirror image; a text or tensor has one). digest: of its content."""

    views: list[Any]
    digest: str


def load(content: Any, recipe: Recipe) -> Loaded:
    """`content` as the network of a resolved recipe wants it. Raises ItemError with the reason."""
    if recipe.modality is Modality.TEXT:
        text, digest = load_text(content)
        return Loaded([text], digest)
    if recipe.modality is Modality.TENSOR:
        return Loaded([_load_tensor(content, recipe)], _hash_of(content))
    side = None if recipe.size is None else max(view_size(recipe.size, scale) for scale in recipe.scales)
    image, digest = load_image(content, side)
    if recipe.size is None:  # the user's own preprocess brings it to size
        views: list[Any] = [image]
        return Loaded([*views, ImageOps.mirror(image)] if recipe.flip else views, digest)
    views = [fit_image(image, view_size(recipe.size, scale), recipe.fit) for scale in recipe.scales]
    if recipe.flip:
        views += [np.ascontiguousarray(view[:, ::-1]) for view in views]
    return Loaded(views, digest)


def view_size(size: int, scale: float) -> int:
    """Pixels of a picture of `size` px at a scale."""
    return max(1, round(size * scale))


def load_image(content: Any, side: int | None = None) -> tuple[Image.Image, str]:
    """A picture as upright RGB, and the hash of its content.

    content: a path or URL, encoded bytes, a PIL image, or an array H x W, H x W x 3 or H x W x 4 of
    uint8 (or of floats in 0..1). side: pixels that it will be brought to; large JPEGs are then decoded smaller.
    Raises ItemError with the reason.
    """
    if isinstance(content, str | Path):
        content = read_bytes(str(content))
    if isinstance(content, bytes | bytearray):
        return decode_image(bytes(content), side), _hash(bytes(content))
    image = to_rgb(content) if isinstance(content, Image.Image) else to_rgb(_from_array(content))
    return image, _hash(image.tobytes())


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
    """What `load` takes for an item of a source."""
    if item.content is not None:
        return item.content
    return item.uri if modality is Modality.IMAGE else read_bytes(item.uri)


def with_digest(content: Any, modality: Modality) -> tuple[Any, str]:
    """What `load` takes for `content`, without reading a file twice, and the hash that `load` would give."""
    if modality is Modality.TEXT:
        return load_text(content)
    if modality is Modality.TENSOR:
        return content, _hash_of(content)
    if isinstance(content, str | Path):
        content = read_bytes(str(content))
    if isinstance(content, bytes | bytearray):
        return bytes(content), _hash(bytes(content))
    return load_image(content)


def _load_tensor(content: Any, recipe: Recipe) -> Any:
    """The item itself; the array in a .npy file where a path is given and nobody else reads it."""
    if recipe.preprocess is None and isinstance(content, str | Path) and str(content).endswith(".npy"):
        try:
            return np.array(read_matrix(str(content)))
        except SourceError as error:
            raise ItemError(str(error)) from error
    return content


def _hash_of(content: Any) -> str:
    """Of numbers and texts; nothing for what only the user's own preprocess can read."""
    if isinstance(content, str | Path):
        return _hash(str(content).encode())
    try:
        array = np.ascontiguousarray(content)
    except (TypeError, ValueError, RuntimeError):
        return ""
    return "" if array.dtype == object else _hash(f"{array.dtype} {array.shape}".encode() + array.tobytes())


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
