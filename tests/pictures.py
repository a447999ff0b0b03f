"""Pictures of every awkward kind, made here so that what they show is known."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

W, H = 40, 20


def encoded(image: Image.Image, form: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def gradient(dtype=np.uint8, top: int = 255) -> np.ndarray:
    """H x W, rising from left to right."""
    return np.broadcast_to(np.linspace(0, top, W), (H, W)).astype(dtype)


def grey16() -> bytes:
    return encoded(Image.fromarray(gradient(np.uint16, 65535)), "PNG")


def transparent(mode: str) -> bytes:
    """Left half opaque red, right half fully transparent black."""
    rgba = np.zeros((H, W, 4), np.uint8)
    rgba[:, : W // 2] = (255, 0, 0, 255)
    image = Image.fromarray(rgba)
    if mode == "RGBA":
        return encoded(image, "PNG")
    if mode == "LA":
        return encoded(image.convert("LA"), "PNG")
    indices = np.zeros((H, W), np.uint8)
    indices[:, W // 2 :] = 1
    palette = Image.frombytes("P", (W, H), indices.tobytes())
    palette.putpalette([255, 0, 0, 0, 0, 0])
    return encoded(palette, "PNG", transparency=1)


def cmyk() -> bytes:
    return encoded(Image.new("CMYK", (W, H), (0, 255, 255, 0)), "JPEG")  # red


def animated() -> bytes:
    frames = [Image.new("RGB", (W, H), colour) for colour in ("red", "blue")]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def rotated() -> bytes:
    """Stored on its side with EXIF orientation 6; upright it is 20 wide, 40 high, red above blue."""
    upright = Image.new("RGB", (H, W), "red")
    upright.paste("blue", (0, W // 2, H, W))
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(upright.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif, quality=95)


def huge(side_x: int = 20_000, side_y: int = 10_000) -> bytes:
    """200 megapixels of one grey in a few kilobytes: a PNG of 1 bit a pixel."""
    return encoded(Image.new("1", (side_x, side_y), 1), "PNG")


def huge_jpeg(turned: bool = False) -> bytes:
    """66 megapixels, red above blue; turned: stored on its side, with the EXIF tag that says so."""
    image = Image.new("RGB", (6000, 11_000), "red")
    image.paste("blue", (0, 5500, 6000, 11_000))
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
        image = image.transpose(Image.Transpose.ROTATE_90)
    return encoded(image, "JPEG", exif=exif, quality=80)


def zero_size() -> bytes:
    """A PNG whose header says 0 x 0."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 0, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def truncated() -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    whole = encoded(Image.fromarray(noise), "JPEG")
    return whole[: len(whole) // 2]
