"""`embedsearch query`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app
from embedsearch.errors import UsageError
from embedsearch.types import Hits, Modality

if TYPE_CHECKING:
    from embedsearch.engine.index import Index

_EXAMPLES = """
Examples:\n
  embedsearch query indexes/photos cat.jpg dog.jpg -k 5\n
  embedsearch query indexes/photos cat.jpg --sheet answer.png\n
  embedsearch query indexes/faq 'how do I reset my password?'\n
  embedsearch query indexes/goods --id 4711 --where 'price < 20' --json\n
  embedsearch query indexes/photos cat.jpg -k all --min-score 0.8\n
  embedsearch query indexes/photos cat.jpg --recall 0.99\n
  embedsearch query indexes/photos cat.jpg --expand 3\n
  cat questions.txt | embedsearch query indexes/faq - --format jsonl\n
"""


@app.command(epilog=_EXAMPLES)
def query(
    index: options.IndexFolder,
    inputs: Annotated[
        Optional[list[str]],
        typer.Argument(
            help="Pictures (paths or URLs), texts, FILE.npy of one array, or of vectors, as the index holds; "
            "- reads one a line from stdin.",
            metavar="[INPUT]...",
        ),
    ] = None,
    text: Annotated[Optional[list[str]], typer.Option(help="A text; may be repeated.")] = None,
    item_id: Annotated[
        Optional[list[str]], typer.Option("--id", help="An indexed id: what is like it? May be repeated.")
    ] = None,
    vector: Annotated[Optional[Path], typer.Option(help="A .npy file with one vector, or one a row.")] = None,
    k: Annotated[str, typer.Option("-k", help="Hits a query, or all.")] = "10",
    where: Annotated[Optional[str], typer.Option(help="SQL condition over the metadata that hits must meet.")] = None,
    min_score: Annotated[
        Optional[float],
        typer.Option(help="Leave out hits that score less; with -k all, every item that scores so much."),
    ] = None,
    max_distance: Annotated[
        Optional[float],
        typer.Option(help="The same for an index built with --metric l2, whose scores are squared distances."),
    ] = None,
    recall: Annotated[
        Optional[float], typer.Option(help="recall@10 of this search. Default: what the index was built for.")
    ] = None,
    group: Annotated[
        bool, typer.Option("--group", help="Of an index of chunks: the best chunk of each text only.")
    ] = False,
    expand: options.Expand = 0,
    style: Annotated[str, typer.Option("--format", help="table, json or jsonl.")] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    weights: options.MovedWeights = None,
    backbone: options.MovedBackbone = None,
    preprocess: options.MovedPreprocess = None,
    sheet: Annotated[Optional[Path], typer.Option(help="Draw queries and hits as one picture.")] = None,
) -> None:
    """Ask an index what is like a picture, a text, a vector, or one of its items.

    The network, layer, pooling and all else come from the index itself. Many inputs are one batch.
    """
    style = "json" if as_json else style
    if style not in ("table", "json", "jsonl"):
        raise UsageError(f"format {style!r} is not known; valid: table, json, jsonl")
    if sheet is not None:
        from embedsearch.presenters.sheet import check_path

        check_path(sheet)
    from embedsearch.engine.opening import open as open_index

    opened = open_index(index, weights=weights, backbone=backbone, preprocess=preprocess)
    wanted: dict[str, Any] = {
        "k": options.how_many(k), "where": where, "min_score": min_score, "max_distance": max_distance,
        "recall": recall, "group": group, "expand": expand,
    }  # fmt: skip
    asked = options.with_stdin(inputs or [])
    queries: list[tuple[str, Any]] = []
    answers: list[Hits] = []
    matrices = [] if vector is None else [str(vector)]
    if opened.modality is Modality.VECTOR:  # what it holds are rows of such files
        matrices = [entry for entry in asked if entry.lower().endswith(".npy")] + matrices
        asked = [entry for entry in asked if not entry.lower().endswith(".npy")]
    if asked or text:
        contents = [*asked, *(text or [])]
        if text and opened.modality is not Modality.TEXT:
            raise UsageError(f"{index} holds {opened.modality.value}s; --text asks an index of texts")
        answers += opened.search_many(contents, **wanted)
        queries += [(content, content) for content in contents]
    if item_id:
        answers += opened.similar_many(item_id, **wanted)
        queries += [(name, _shown(opened, name) if sheet else None) for name in item_id]
    for path in matrices:
        from embedsearch.sources import read_matrix

        found = opened.search_many(vectors=read_matrix(path), **wanted)
        answers += found
        names = [path] if len(found) == 1 else [f"{path}[{row}]" for row in range(len(found))]
        queries += [(name, None) for name in names]
    if not queries and inputs is None:
        raise UsageError("nothing is asked; give an INPUT, --text, --id or --vector")
    _present([label for label, _ in queries], answers, style)
    if sheet is not None:
        opened.save_sheet(queries, answers, sheet)
        if style == "table":
            print(f"\ndrawn in {sheet}")


def _shown(opened: Index, item_id: str) -> Any:
    """What a sheet shows of an indexed item."""
    item = opened.item(item_id)
    if opened.modality is Modality.IMAGE:
        return item.uri
    return max((str(value) for value in item.metadata.values() if isinstance(value, str)), key=len, default=item_id)


def _present(labels: list[str], answers: list[Hits], style: str) -> None:
    from embedsearch.presenters.plain import answers_as_data, answers_as_text

    if style == "table":
        if labels:
            print(answers_as_text(labels, answers))
        return
    data = answers_as_data(labels, answers)
    if style == "json":
        print(json.dumps(data, ensure_ascii=False, indent=2))
        return
    for entry in data:
        print(json.dumps(entry, ensure_ascii=False))
