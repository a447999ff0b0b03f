"""`embedsearch embed`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Optional

import typer

from embedsearch.cli.app import app
from embedsearch.errors import UsageError

_EXAMPLES = """
Examples:\n
  embedsearch embed vgg16 cat.jpg --layer features.22 --pooling gem\n
  embedsearch embed minilm 'a text' 'another text' --out texts.npy\n
"""


@app.command(epilog=_EXAMPLES)
def embed(
    backbone: Annotated[str, typer.Argument(help="A torchvision name (vgg16, resnet50, ...), bert, minilm.")],
    inputs: Annotated[list[str], typer.Argument(help="Pictures (paths or URLs) or texts.", metavar="INPUT...")],
    layer: Annotated[Optional[list[str]], typer.Option(help="Module name; may be repeated.")] = None,
    pooling: Annotated[str, typer.Option(help="mean, max, gem or cls.")] = "mean",
    gem_p: Annotated[float, typer.Option(help="Exponent of gem.")] = 3.0,
    weights: Annotated[str, typer.Option(help="auto, packaged, a file, a folder or hub name.")] = "auto",
    size: Annotated[Optional[int], typer.Option(help="Pixels of the shorter side.")] = None,
    fit: Annotated[str, typer.Option(help="crop, pad or squash.")] = "crop",
    normalize: Annotated[bool, typer.Option(help="L2-normalise.")] = True,
    precision: Annotated[str, typer.Option(help="float32, bfloat16, or auto (float32).")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    out: Annotated[Optional[Path], typer.Option(help="Save a matrix N x D as .npy instead of printing.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list on stdout.")] = False,
) -> None:
    """Print or save vectors without building an index."""
    import numpy as np

    from embedsearch.pipeline.encode import Encoder

    if out is not None and out.suffix != ".npy":
        raise UsageError(f"--out {out} must end in .npy")
    encoder = Encoder(
        backbone, layer=layer or None, pooling=pooling, gem_p=gem_p, weights=weights, size=size, fit=fit,
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
