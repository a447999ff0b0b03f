"""`embedsearch embed`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from embedsearch.cli.app import app
from embedsearch.cli.options import POOLINGS, long_texts
from embedsearch.errors import UsageError

_EXAMPLES = """
Examples:\n
  embedsearch embed vgg16 cat.jpg --layer features.22 --pooling gem\n
  embedsearch embed minilm 'a text' 'another text' --out texts.npy\n
  embedsearch embed module:net.py:make one.npy --layer block.3\n
"""


@app.command(epilog=_EXAMPLES)
def embed(
    backbone: Annotated[
        str,
        typer.Argument(help="A torchvision name (vgg16, ...), bert, minilm, keras:PATH, module:FILE.py:FACTORY."),
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(help="Pictures (paths or URLs), texts, or FILE.npy with one array.", metavar="INPUT..."),
    ],
    layer: Annotated[Optional[list[str]], typer.Option(help="Name or alias; may be repeated.")] = None,
    layer_weight: Annotated[Optional[list[float]], typer.Option(help="One for each --layer.")] = None,
    combine: Annotated[str, typer.Option(help="Several layers: concat (vectors) or mean (activations).")] = "concat",
    pooling: Annotated[str, typer.Option(help=f"{POOLINGS}.")] = "mean",
    gem_p: Annotated[float, typer.Option(help="Exponent of gem.")] = 3.0,
    weights: Annotated[str, typer.Option(help="auto, packaged, a file, a folder or hub name.")] = "auto",
    modality: Annotated[
        Optional[str],
        typer.Option(
            help="What a network of your own reads: image, text or tensor. "
            "Default: image for files that end as pictures do, else tensor."
        ),
    ] = None,
    preprocess: Annotated[
        Optional[str],
        typer.Option(help="For a network of your own: torch, caffe, tf, unit, raw, or module:FILE.py:FUNCTION."),
    ] = None,
    channels: Annotated[str, typer.Option(help="For a network of your own: first or last. Default: auto.")] = "auto",
    size: Annotated[Optional[int], typer.Option(help="Pixels of the shorter side.")] = None,
    fit: Annotated[str, typer.Option(help="crop, pad or squash.")] = "crop",
    scale: Annotated[Optional[list[float]], typer.Option(help="Average over these multiples of --size.")] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average over each picture and its mirror image.")] = False,
    max_tokens: Annotated[Optional[int], typer.Option(help="Tokens of one window of a text.")] = None,
    overlap: Annotated[Optional[int], typer.Option(help="Tokens that neighbouring windows share.")] = None,
    cut: Annotated[bool, typer.Option("--cut", help="Cut longer texts instead of reading all windows.")] = False,
    normalize: Annotated[bool, typer.Option(help="L2-normalise.")] = True,
    precision: Annotated[str, typer.Option(help="float32, bfloat16, or auto (float32).")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    out: Annotated[Optional[Path], typer.Option(help="Save a matrix N x D as .npy instead of printing.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list on stdout.")] = False,
) -> None:
    """Print or save vectors without building an index: one instance, or several."""
    import numpy as np

    from embedsearch.pipeline.encode import Encoder
    from embedsearch.sources.folder import IMAGE_SUFFIXES

    if out is not None and out.suffix != ".npy":
        raise UsageError(f"--out {out} must end in .npy")
    own = backbone.startswith(("module:", "keras:"))
    if own and modality is None and all(Path(name).suffix.lower() in IMAGE_SUFFIXES for name in inputs):
        modality = "image"
    encoder = Encoder(
        backbone, layer=layer or None, layer_weights=layer_weight, combine=combine, pooling=pooling, gem_p=gem_p,
        weights=weights, modality=modality, preprocess=preprocess, channels=channels, size=size,
        fit=fit, scales=scale or (1.0,), flip=flip, max_tokens=max_tokens, overlap=overlap,
        long_texts=long_texts(False, cut) or "windows",
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
