"""Bytes of a picture to RGB, and RGB to the square a network reads."""

from __future__ import annotations

import io
import threading
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from embedsearch.errors import ItemError

# above this a file is refused as a decompression bomb; a 16,384-pixel square still passes
MAX_PIXELS = 2**28
# pictures above this are decoded one at a time, so that threads cannot multiply their memory
_LARGE_PIXELS = 2**25
_REDUCED_SIDE = 2048
# resizing from twice the pixels gives what resizing from all of them gives; vectors of VGG16 keep a cosine above .999
_DRAFT_TIMES = 4

_FORMATS = (
    *("AVIF", "BMP", "DDS", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM"),
    *("QOI", "SGI", "TGA", "TIFF", "WEBP"),
)

_open_lock = threading.Lock()
_large_lock = threading.Lock()


def decode_image(data: bytes, side: int | None = None) -> Image.Image:
    """The first frame of a picture as upright RGB: EXIF rotation applied, transparency laid on white.

    side: pixels of the square it will be brought to; a JPEG whose shorter side has _DRAFT_TIMES that is decoded at 1/2,
    1/4 or 1/8, still at _DRAFT_TIMES / 2 or more.
    Reads every format Pillow reads, palettes, grey, CMYK and 16 or 32 bits a channel among them.
    Raises ItemError with the reason when the bytes are no picture, are cut short, or hold more than
    `MAX_PIXELS`.
    """
    if not data:
        raise ItemError("empty file (0 bytes)")
    try:
        image = _open(data)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ItemError(f"{width} x {height} pixels; at most {MAX_PIXELS // 10**6} million are decoded")
        if width == 0 or height == 0:
            raise ItemError(f"zero size: {width} x {height} pixels")
        if width * height <= _LARGE_PIXELS:
            if side is not None and image.format == "JPEG" and min(width, height) >= _DRAFT_TIMES * side:
                factor = min(width, height) / (_DRAFT_TIMES // 2 * side)
                image.draft(image.mode, (int(width / factor), int(height / factor)))
            image.load()
            return to_rgb(image)
        with _large_lock:
            return to_rgb(_load_reduced(image))
    except ItemError:
        raise
    except UnidentifiedImageError:
        raise ItemError("not a picture that Pillow can read") from None
    except Exception as error:  # decoders of damaged files raise nearly anything: OSError, SyntaxError, struct.error
        raise ItemError(f"damaged picture: {error or type(error).__name__}") from error


def _open(data: bytes) -> Image.Image:
    # Pillow's own limit is a module global and below what we accept; it is looked at only while the header is read
    with _open_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data), formats=_formats())
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _load_reduced(image: Image.Image) -> Image.Image:
    """A large picture, its shorter side brought near _REDUCED_SIDE by whole factors while it is read.

    Networks see a few hundred pixels of it; at full size each step of the conversion would hold a copy.
    """
    image.draft("RGB", (_REDUCED_SIDE, _REDUCED_SIDE))  # JPEG alone: decodes at 1/2, 1/4 or 1/8
    image.load()
    factor = min(image.size) // _REDUCED_SIDE
    if factor < 2:
        return image
    if image.mode in ("1", "P", "PA"):  # these cannot be averaged
        image = image.convert("RGBA" if image.mode == "PA" or "transparency" in image.info else "RGB")
    reduced = image.reduce(factor)
    reduced.info = image.info
    if "exif" in image.info:
        reduced.getexif().load(image.info["exif"])
    return reduced


@cache
def _formats() -> tuple[str, ...]:
    """The formats that are read: no vector graphics, whose readers start other programs."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow image as upright RGB; the argument is not changed. Raises ItemError when it is damaged."""
    try:
        return _to_rgb(image)
    except ItemError:
        raise
    except Exception as error:  # a lazily loaded file may turn out to be cut short
        raise ItemError(f"damaged picture: {error or type(error).__name__}") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if 0 in image.size:
        raise ItemError(f"zero size: {image.width} x {image.height} pixels")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _high_depth(image)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _high_depth(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit integer and float grey to RGB; Pillow's own convert would clip at 255."""
    grey = np.asarray(image).astype(np.float32)
    if not np.isfinite(grey).all():
        raise ItemError("the picture holds NaN or infinity")
    top = float(grey.max())
    full = 1.0 if image.mode == "F" and top <= 1 else 255.0
    if image.mode.startswith("I;16") or top > 255:
        full = 65535.0  # TIFF and PNG store grey deeper than 8 bits as 16
    levels = np.clip(np.rint(grey * (255.0 / full)), 0, 255).astype(np.uint8)
    return Image.fromarray(levels).convert("RGB")


def fit_image(image: Image.Image, size: int, fit: str = "crop") -> NDArray[np.uint8]:
    """An RGB image as uint8 size x size x 3, resized bicubically.

    fit: "crop" brings the shorter side to `size` and takes the centre, as torchvision's weights do;
    "pad" brings the longer side to `size` and fills with white; "squash" ignores the aspect ratio.
    """
    width, height = image.size
    if fit == "squash":
        width = height = size
    else:
        reference = (min if fit == "crop" else max)(width, height)
        # an extreme strip would be resized to millions of pixels, of which the crop keeps few
        if fit == "crop" and max(width, height) > 4 * reference:
            image = _centre(image, min(width, 4 * reference), min(height, 4 * reference))
            width, height = image.size
        # truncated as torchvision's Resize truncates
        width, height = max(1, size * width // reference), max(1, size * height // reference)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=None)
    if fit == "crop":
        image = _centre(image, size, size)
    elif (width, height) != (size, size):
        canvas = Image.new("RGB", (size, size), (255, 255, 255))
        canvas.paste(image, ((size - width) // 2, (size - height) // 2))
        image = canvas
    return np.array(image, dtype=np.uint8)


def fitted_box(width: int, height: int, size: int, fit: str = "crop") -> tuple[float, float, float, float]:
    """Where the square that `fit_image` makes lies on a picture of width x height: left, top, right and bottom in its
    pixels. It reaches beyond the picture where "pad" fills with white.
    """
    if fit == "squash":
        return 0.0, 0.0, float(width), float(height)
    reference = (min if fit == "crop" else max)(width, height)
    left = top = 0
    if fit == "crop" and max(width, height) > 4 * reference:
        inner_width, inner_height = min(width, 4 * reference), min(height, 4 * reference)
        left, top = round((width - inner_width) / 2.0), round((height - inner_height) / 2.0)
        width, height = inner_width, inner_height
    fitted = max(1, size * width // reference), max(1, size * height // reference)
    # of the resized picture, where the square begins; of a padded one that is outside
    if fit == "crop":
        begins = round((fitted[0] - size) / 2.0), round((fitted[1] - size) / 2.0)
    else:
        begins = -((size - fitted[0]) // 2), -((size - fitted[1]) // 2)
    across, down = width / fitted[0], height / fitted[1]  # pixels of the picture to one of the square
    return (
        left + begins[0] * across,
        top + begins[1] * down,
        left + (begins[0] + size) * across,
        top + (begins[1] + size) * down,
    )


def _centre(image: Image.Image, width: int, height: int) -> Image.Image:
    # rounded as torchvision's CenterCrop rounds
    left, top = round((image.width - width) / 2.0), round((image.height - height) / 2.0)
    return image.crop((left, top, left + width, top + height))
