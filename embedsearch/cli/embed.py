"""`embedsearch embed`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app
from embedsearch.config import is_own
from embedsearch.errors import UsageError

_EXAMPLES = """
Examples:\n
  embedsearch embed vgg16 cat.jpg --layer features.22 --pooling gem\n
  embedsearch embed minilm 'a text' 'another text' --out texts.npy\n
  embedsearch embed module:net.py:make one.npy --layer block.3\n
"""


@app.command(cls=options.NamingCommand, epilog=_EXAMPLES)
def embed(
    backbone: options.NetworkName,
    inputs: Annotated[
        list[str],
        typer.Argument(help="Pictures (paths or URLs), texts, or FILE.npy with one array.", metavar="INPUT..."),
    ],
    layer: options.Layer = None,
    layer_weight: options.LayerWeight = None,
    combine: options.Combine[str] = "concat",
    pooling: options.Pooling[str] = "mean",
    gem_p: options.GemP[float] = 3.0,
    weights: options.Weights[str] = "auto",
    modality: Annotated[
        Optional[str],
        typer.Option(
            help="What a network of your own reads: image, text or tensor. "
            "Default: image for files that end as pictures do, else tensor."
        ),
    ] = None,
    preprocess: options.Preprocess = None,
    channels: options.Channels[str] = "auto",
    size: options.Size = None,
    fit: options.Fit[str] = "crop",
    scale: options.Scale = None,
    flip: options.Flip[bool] = False,
    max_tokens: options.MaxTokens = None,
    overlap: options.Overlap = None,
    cut: options.Cut = False,
    normalize: Annotated[bool, typer.Option(help="L2-normalise.")] = True,
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    out: Annotated[Optional[Path], typer.Option(help="Save a matrix N x D as .npy instead of printing.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list on stdout.")] = False,
) -> None:
    """Print or save vectors without building an index: one instance, or several."""
    import numpy as np

    from embedsearch.pipeline.encode import Encoder
    from embedsearch.sources.folder import IMAGE_SUFFIXES

    if out is not None and out.suffix != ".npy":
        raise UsageError(f"--out {out} must end in .npy")
    own = is_own(backbone)
    if own and modality is None and all(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in inputs):
        modality = "image"
    encoder = Encoder(
        backbone, layer=layer or None, layer_weights=layer_weight, combine=combine, pooling=pooling, gem_p=gem_p,
        weights=weights, modality=modality, preprocess=preprocess, channels=channels, size=size,
        fit=fit, scales=scale or (1.0,), flip=flip, max_tokens=max_tokens, overlap=overlap,
        long_texts=options.long_texts(False, cut) or "windows",
        normalize=normalize, precision=precision, device=device,
    )  # fmt: skip
    x = encoder.encode(inputs)
    if out is not None:
        np.save(out, x)
        print(f"{out} holds {x.shape[0]} x {x.shape[1]} float32")
        return
    entries = [
        {"input": name, "vector": [float(f"{value:.8g}") for value in row]} for name, row in zip(inputs, x, strict=True)
    ]
    if as_json:
        print(json.dumps(entries, ensure_ascii=False))
        return
    for entry in entries:
        print(json.dumps(entry, ensure_ascii=False))
