"""`embedsearch explain`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app

if TYPE_CHECKING:
    from embedsearch.pipeline.explain.explanation import Explanation

_EXAMPLES = """
Examples:\n
  embedsearch explain indexes/photos cat.jpg --id lion.jpg --out why.png\n
  embedsearch explain indexes/faq 'how do I reset my password?' --id 12 --out why.html\n
  embedsearch explain indexes/photos cat.jpg --id lion.jpg --json\n
"""


@app.command(epilog=_EXAMPLES)
def explain(
    index: options.IndexFolder,
    asked: Annotated[str, typer.Argument(help="A picture (path or URL) or a text.", metavar="INPUT")],
    item_id: Annotated[str, typer.Option("--id", help="The indexed item whose score is explained.")],
    item: Annotated[
        Optional[Path], typer.Option(help="The file of the item, where it is not where it was indexed.")
    ] = None,
    out: Annotated[
        Optional[Path], typer.Option(help="Draw it as .png, .jpg, .webp or .html, or keep the arrays as .npz.")
    ] = None,
    as_json: options.AsJson = False,
    weights: options.MovedWeights = None,
    backbone: options.MovedBackbone = None,
    preprocess: options.MovedPreprocess = None,
) -> None:
    """Show what in both made an input and an indexed item alike.

    The score is a sum over pairs of places (or words), one in each; the strongest are listed, and all are drawn.
    """
    if out is not None:
        from embedsearch.presenters.why import check_path

        check_path(out)
    from embedsearch.engine.opening import open as open_index

    opened = open_index(index, weights=weights, backbone=backbone, preprocess=preprocess)
    found = opened.explain(asked, id=item_id, item=item)
    if out is not None:
        found.save(out)
    if as_json:
        print(json.dumps(found.to_dict(), ensure_ascii=False, indent=2))
        return
    for line in _lines(found):
        print(line)
    if out is not None:
        print(f"\n{'kept' if out.suffix.lower() == '.npz' else 'drawn'} in {out}")


def _lines(found: Explanation) -> list[str]:
    from embedsearch.presenters.plain import aligned

    data = found.to_dict()
    parts = data["parts"]
    sums = [f"pairs {parts['pairs']:.4f}"]
    sums += [f"mean of the projection {parts['mean']:+.4f}"] if found.query_mean.any() or found.means else []
    if found.lengths:
        sums = [f"{parts['lengths']:.4f} - 2 x ({', '.join(sums)})"]
    sums += [f"rounding {found.rounding:+.4f}"] if abs(found.rounding) >= 5e-5 else []
    lines = [f"{found.item.label}: score {found.score:.4f} ({found.metric}) = {', '.join(sums)}"]
    whole = found.whole
    rows = [["", "share", "of all" if whole else "", "in the query", "in the item"]]
    for number, pair in enumerate(data["pairs"], 1):
        of_all = f"{pair['share'] / whole:.1%}" if whole else ""
        rows.append([str(number), f"{pair['share']:.4f}", of_all, _place(pair["query"]), _place(pair["item"])])
    lines += aligned(rows) if len(rows) > 1 else ["  no pair adds to the score"]
    return [*lines, f"  ({found.split})", *(f"  note: {note}" for note in found.notes)]


def _place(told: dict[str, object]) -> str:
    box = told.get("box")
    if isinstance(box, list):
        return f"x {box[0]:.0f} to {box[2]:.0f}, y {box[1]:.0f} to {box[3]:.0f}"
    return str(told["word"])
