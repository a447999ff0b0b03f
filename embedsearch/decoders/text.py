"""Bytes and strings to text that a tokenizer can read."""

from __future__ import annotations

from embedsearch.errors import ItemError


def decode_text(data: bytes) -> str:
    """UTF-8 (with or without a byte order mark) to text. Raises ItemError when it is not, or is empty."""
    try:
        return check_text(data.removeprefix(b"\xef\xbb\xbf").decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ItemError(f"not UTF-8: byte {error.start + 1}") from error


def check_text(text: str) -> str:
    """`text` itself. Raises ItemError when nothing but white space is in it."""
    if not text or text.isspace():
        raise ItemError("empty text")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ItemError(f"not valid Unicode: lone surrogate at character {error.start + 1}") from error
    return text
