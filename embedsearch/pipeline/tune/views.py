"""Tasks made of the items themselves: another look at each, by which it has to be found again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from embedsearch.errors import ItemError
from embedsearch.pipeline.content import load_image, load_text
from embedsearch.types import Modality

ITSELF = "itself"
_WHITE = (255, 255, 255)

View = Callable[[Any, np.random.Generator], Any]


@dataclass(frozen=True, slots=True)
class Task:
    """What asks is looked for among all that answers. told: for people. asking, answering: names of views."""

    told: str
    asking: str
    answering: str = ITSELF


def tasks_of(modality: Modality) -> dict[str, Task]:
    """The tasks for such items by name; none for what is neither a picture nor a text."""
    return _TASKS.get(modality, {})


def seen(content: Any, name: str, modality: Modality, item_id: str) -> Any:
    """The item in the view `name`, the same at every call; ITSELF gives it back as it is. Raises ItemError."""
    if name == ITSELF or isinstance(content, ItemError):
        return content
    rng = np.random.default_rng(crc32(f"{name}:{item_id}".encode("utf-8", "surrogatepass")))
    read = load_image(content)[0] if modality is Modality.IMAGE else load_text(content)[0]
    return _VIEWS[name](read, rng)


def _cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    share = float(rng.uniform(0.4, 0.7)) ** 0.5  # of each side: a half of the area, more or less
    width, height = max(round(image.width * share), 1), max(round(image.height * share), 1)
    left, top = (int(rng.integers(0, most + 1)) for most in (image.width - width, image.height - height))
    return image.crop((left, top, left + width, top + height))


def _turned(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    angle = float(rng.uniform(15, 45)) * (1 if rng.random() < 0.5 else -1)
    turned = image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=_WHITE)
    shift = [round(float(rng.uniform(-0.2, 0.2)) * side) for side in image.size]
    moved = Image.new("RGB", image.size, _WHITE)
    moved.paste(turned, (shift[0], shift[1]))
    return moved


def _recoloured(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    for kind in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        image = kind(image).enhance(float(rng.uniform(0.5, 1.5)))
    hue, saturation, value = image.convert("HSV").split()
    moved = int(rng.integers(-32, 33))
    hue = hue.point([(level + moved) % 256 for level in range(256)])
    return ImageEnhance.Color(Image.merge("HSV", (hue, saturation, value)).convert("RGB")).enhance(
        float(rng.uniform(0.0, 1.0))
    )


def _blurred(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = max(image.size)
    blurred = image.filter(ImageFilter.GaussianBlur(side * float(rng.uniform(0.02, 0.04))))
    noise = rng.normal(0, 12, (image.height, image.width, 3))
    return Image.fromarray(np.clip(np.asarray(blurred) + noise, 0, 255).astype(np.uint8))


def _all_at_once(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    return ImageOps.mirror(_recoloured(_cropped(_turned(image, rng), rng), rng))


def _dropped(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    kept = [word for word in words if rng.random() < 0.5]
    return " ".join(kept or words[:1])


def _reordered(text: str, rng: np.random.Generator) -> str:
    words = [re.sub(r"\W+$", "", word) or word for word in text.lower().split()]
    return " ".join(words[at] for at in rng.permutation(len(words)))


def _first_words(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    return " ".join(words[: -(-len(words) // 3)])


def _odd_words(text: str, rng: np.random.Generator) -> str:
    return " ".join(text.split()[::2])


def _even_words(text: str, rng: np.random.Generator) -> str:
    words = text.split()
    return " ".join(words[1::2] or words)


def _misspelt(text: str, rng: np.random.Generator) -> str:
    letters = list(text)
    for at in range(len(letters) - 1):
        if letters[at].isalpha() and letters[at + 1].isalpha() and rng.random() < 0.12:
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


_VIEWS: dict[str, View] = {
    "cropped": _cropped,
    "turned": _turned,
    "recoloured": _recoloured,
    "blurred": _blurred,
    "all at once": _all_at_once,
    "dropped": _dropped,
    "reordered": _reordered,
    "first words": _first_words,
    "misspelt": _misspelt,
    "odd words": _odd_words,
    "even words": _even_words,
}
_TASKS: dict[Modality, dict[str, Task]] = {
    Modality.IMAGE: {
        "crop": Task("about half of the picture, anywhere in it, asks for the whole", "cropped"),
        "turn": Task("the picture turned by 15 to 45 degrees, and moved", "turned"),
        "colour": Task("in other brightness, contrast and hue, and paler", "recoloured"),
        "blur": Task("blurred, with noise", "blurred"),
        "all": Task("turned, moved, cropped, recoloured and mirrored", "all at once"),
    },
    # most of these are solved by the words alone; halves, which share none, are solved by what they are about
    Modality.TEXT: {
        "drop": Task("the text without every second word, at random, asks for the whole", "dropped"),
        "order": Task("its words in another order, without capitals and punctuation", "reordered"),
        "start": Task("the first third of its words", "first words"),
        "spelling": Task("with letters swapped", "misspelt"),
        "halves": Task("its first, third, ... words ask for its second, fourth, ... words", "odd words", "even words"),
    },
}
