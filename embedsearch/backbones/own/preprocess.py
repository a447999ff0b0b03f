"""From a decoded item to what a user's own network takes: by a named mode, or by a function of theirs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from embedsearch.backbones.own.pixels import MODES, scale_pixels
from embedsearch.backbones.own.user_code import absolute, code_name, load_code
from embedsearch.config import MEMORY_SCHEME, MODULE_SCHEME
from embedsearch.errors import CodeError, ItemError, UsageError, unknown
from embedsearch.types import Modality


@dataclass(frozen=True, slots=True)
class Preprocess:
    """name: goes into the manifest; None for nothing. mode: of pixels, or None. function: the user's, or None."""

    modality: Modality
    name: str | None = None
    mode: str | None = None
    function: Callable[[Any], Any] | None = None
    channels_first: bool = True

    @property
    def fits_size(self) -> bool:
        """True when it takes pictures as uint8 size x size x 3; a user's own function takes them whole."""
        return self.modality is Modality.IMAGE and self.function is None

    @property
    def told(self) -> str:
        """Why pictures have no size here."""
        if self.modality is not Modality.IMAGE:
            return f"the network reads {self.modality.value}s"
        return f"preprocess {self.name} takes pictures whole and brings them to size"

    def __call__(self, value: Any, finish: Callable[[Any], Any]) -> Any:
        """`value` made ready and passed to `finish`; an ItemError where the user's function cannot take it."""
        try:
            if self.function is not None:
                return finish(self.function(value))
            if self.mode is not None:
                pixels = scale_pixels(value, self.mode)
                return finish(pixels.transpose(2, 0, 1) if self.channels_first else pixels)
            return finish(value)
        except ItemError as error:
            return error
        except Exception as error:  # one item that a user's function cannot take must not end a build
            hint = "; give modality='image' (--modality image) where it takes pictures" if self._is_lost(value) else ""
            reason = ItemError(f"preprocess raises {type(error).__name__}: {error}{hint}")
            reason.__cause__ = error
            return reason

    def _is_lost(self, value: Any) -> bool:
        """True for a path given to a function that was not told to expect pictures."""
        return self.modality is Modality.TENSOR and isinstance(value, str | Path)

    def example(self, size: int | None) -> Any:
        """An item of the right kind, to find out what comes of one; None where nobody can know."""
        if self.modality is Modality.IMAGE:
            white = np.full((size or 256, size or 256, 3), 255, np.uint8)
            return white if self.fits_size else Image.fromarray(white)
        return "a text" if self.modality is Modality.TEXT else None


def open_preprocess(
    wanted: str | Callable[[Any], Any] | None,
    modality: Modality,
    usual_mode: str | None,
    network: str,
    *,
    channels_first: bool = True,
) -> Preprocess:
    """The preprocess that `wanted` names, or `wanted` itself.

    wanted: a mode of pixels.MODES, "module:FILE:FUNCTION", a function, or None: `usual_mode` for
    pictures, nothing for tensors. Raises UsageError, UnknownNameError or CodeError.
    """
    if callable(wanted):
        return Preprocess(modality, code_name(wanted), None, wanted)
    if wanted is not None and wanted.startswith(MODULE_SCHEME):
        return Preprocess(modality, absolute(wanted), None, load_code(wanted, "preprocess"))
    if wanted is not None and wanted.startswith(MEMORY_SCHEME):
        raise CodeError(
            f"the preprocess {wanted.removeprefix(MEMORY_SCHEME)} was given in Python; give it again: "
            "embedsearch.open(path, preprocess=the_function), or --preprocess module:FILE.py:FUNCTION"
        )
    if wanted is not None and wanted not in MODES:
        raise unknown("preprocess", wanted, MODES, "(or module:FILE.py:FUNCTION)")
    if modality is Modality.TENSOR:
        if wanted is not None:
            raise UsageError(f"preprocess {wanted!r} is for pictures; give modality='image' with it")
        return Preprocess(modality)
    if modality is Modality.TEXT:
        raise UsageError(
            f"{network} must be told how to read a text: give preprocess, a function from a text to tensors"
        )
    mode = wanted or usual_mode
    if mode is None:
        modes = "; ".join(f"{name}: {meaning}" for name, meaning in MODES.items())
        raise UsageError(f"{network} must be told how it wants the pixels of a picture: give preprocess ({modes})")
    return Preprocess(modality, mode, mode, None, channels_first)
