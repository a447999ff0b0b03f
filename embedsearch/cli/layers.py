"""`embedsearch layers`."""

from __future__ import annotations

import json
from typing import Annotated, Optional

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app

_EXAMPLES = """
Examples:\n
  embedsearch layers vgg16 --size 96\n
  embedsearch layers minilm --json\n
  embedsearch layers bert --weights models/my-bert\n
  embedsearch layers keras:model.keras\n
  embedsearch layers module:net.py:make --size 64\n
  embedsearch layers module:tower.py:make --input one.npy\n
"""


@app.command(epilog=_EXAMPLES)
def layers(
    backbone: options.NetworkName,
    weights: Annotated[
        str, typer.Option(help="For bert a folder or hub name; for networks of your own a file.")
    ] = "auto",
    size: Annotated[Optional[int], typer.Option(help="Pixels of the square input. Default: the network's own.")] = None,
    example: Annotated[
        Optional[str],
        typer.Option("--input", help="For a network of your own: FILE.npy with one item it reads, or a text."),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List the layers of a network: name, aliases, type, output shape, and what it costs until there.

    Every name and alias is good for --layer; NAME@2 is the second of several calls. Shapes, GFLOP (a
    multiply-add counts as two) and parameters, both counted up to the layer, are for one picture of
    --size pixels, one text of 128 tokens, or the input shape that a Keras model names; of a network that reads
    something else, give --input.
    """
    from embedsearch.engine.networks import describe
    from embedsearch.presenters.plain import layers_as_text

    infos, default = describe(backbone, weights=weights, size=size, example=_item(example))
    if as_json:
        fields = ("name", "aliases", "type", "shape", "gflop", "n_params", "n_calls")
        rows = [{name: getattr(info, name) for name in fields} for info in infos]
        print(json.dumps({"backbone": backbone, "default": default, "layers": rows}, indent=2))
    else:
        print(layers_as_text(infos, default))


def _item(example: str | None) -> object:
    """The array in a .npy file, or the text itself."""
    if example is None or not example.endswith(".npy"):
        return example
    from embedsearch.sources import read_matrix

    return read_matrix(example)
