"""`embedsearch recommend`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app
from embedsearch.errors import UsageError
from embedsearch.types import Hit, Hits

if TYPE_CHECKING:
    from embedsearch.engine.index import Index
    from embedsearch.types import Recommendations

_EXAMPLES = """
Examples:\n
  embedsearch recommend indexes/goods --liked 4711 --liked 1234 -k 5\n
  embedsearch recommend indexes/goods --liked 4711=5 --liked 1234=2 --disliked 99\n
  embedsearch recommend indexes/films --liked 1 --diversity 0.3 --max-per genre=2 --where 'year > 1990'\n
  embedsearch recommend indexes/photos --liked new.jpg --strategy max --because 2\n
  embedsearch recommend indexes/films --and indexes/factors --weight 0.3 --weight 1 --liked 1 --json\n
  embedsearch recommend indexes/films --liked - < favourites.txt\n
"""


@app.command(epilog=_EXAMPLES)
def recommend(
    index: options.IndexFolder,
    liked: Annotated[
        list[str],
        typer.Option(
            help="An id, or what is not indexed: a picture or a text, as the index holds. ID=WEIGHT counts more "
            "or less than 1. May be repeated; - reads one a line from stdin."
        ),
    ],
    disliked: Annotated[
        Optional[list[str]],
        typer.Option(help="The same, of what pushes away and is never answered. May be repeated."),
    ] = None,
    exclude: Annotated[Optional[list[str]], typer.Option(help="An id to leave out. May be repeated.")] = None,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
    where: Annotated[
        Optional[str], typer.Option(help="SQL condition over the metadata that answers must meet.")
    ] = None,
    diversity: Annotated[
        float, typer.Option(help="0 for the plain order, up to 1 for what is least alike among the candidates.")
    ] = 0.0,
    max_per: Annotated[
        Optional[list[str]],
        typer.Option(help="COLUMN=N: at most N answers with the same value. May be repeated.", metavar="COLUMN=N"),
    ] = None,
    strategy: Annotated[
        Optional[list[str]],
        typer.Option(
            help="centroid, agreement, max, clusters, or auto (by the length of the history); for several indexes one, "
            "or one each. Default: auto."
        ),
    ] = None,
    with_liked: Annotated[bool, typer.Option("--with-liked", help="What is liked may be answered again.")] = False,
    because: Annotated[int, typer.Option(help="Show up to so many of the liked that pulled each answer.")] = 0,
    others: Annotated[
        Optional[list[str]],
        typer.Option("--and", help="Folder of another index over the same ids, to blend with. May be repeated."),
    ] = None,
    weight: Annotated[
        Optional[list[float]], typer.Option(help="One for each index, in their order. Default: 1.")
    ] = None,
    fusion: Annotated[str, typer.Option(help="How several indexes are blended: rank or score.")] = "rank",
    style: Annotated[str, typer.Option("--format", help="table, json or jsonl.")] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Recommend items to somebody who likes some.

    What is liked or disliked is left out of the answers. Where fewer than -k come back, a note says why.
    """
    style = "json" if as_json else style
    if style not in ("table", "json", "jsonl"):
        raise UsageError(f"format {style!r} is not known; valid: table, json, jsonl")
    from embedsearch.engine.opening import open as open_index
    from embedsearch.engine.recommender import Recommender

    indexes = [open_index(index), *(open_index(folder) for folder in others or [])]
    rec = Recommender(indexes, weights=weight, fusion=fusion)  # type: ignore[arg-type]
    known = set(rec.ids)
    items, weights = _weighted(options.ids_with_stdin(liked), known)
    found = rec.recommend(
        items,
        options.ids_with_stdin(disliked or []),
        weights,
        k,
        exclude,
        where,
        diversity,
        "auto" if not strategy else strategy[0] if len(strategy) == 1 else strategy,
        max_per=_caps(max_per or []),
        exclude_liked=not with_liked,
        because=_at_least_nothing(because),
    )
    _present(", ".join(items), _hits(indexes[0], found, known), found, style)


def _weighted(entries: list[str], known: set[str]) -> tuple[list[str], list[float]]:
    """Inputs and weights. An id that holds a = is one."""
    items, weights = [], []
    for entry in entries:
        name, sign, number = entry.rpartition("=")
        weight = _number(number) if sign and entry not in known else None
        if weight is None and entry not in known and name in known:
            raise UsageError(f"--liked {entry!r}: {number!r} is no weight; give ID=NUMBER, such as {name}=2")
        items.append(entry if weight is None else name)
        weights.append(1.0 if weight is None else weight)
    return items, weights


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _caps(entries: list[str]) -> dict[str, int]:
    caps = {}
    for entry in entries:
        column, _, count = entry.rpartition("=")
        if not column or not (count.isascii() and count.isdigit()):
            raise UsageError(f"--max-per {entry!r} is not valid; give COLUMN=N, such as brand=2")
        caps[column] = int(count)
    return caps


def _at_least_nothing(because: int) -> int:
    if because < 0:
        raise UsageError(f"--because is {because}; it must be at least 0")
    return because


def _hits(index: Index, found: Recommendations, known: set[str]) -> Hits:
    """Answers with the metadata that the first index has of them."""
    held = set(index.ids) if len(known) != len(index) else known
    hits = Hits(note=found.notes[0])
    for rank, (item, score) in enumerate(zip(found.ids, found.scores, strict=True), start=1):
        told = index.item(item) if item in held else Hit(item, 0.0, 1)
        hits.append(Hit(item, float(score), rank, told.metadata, told.uri))
    return hits


def _present(label: str, hits: Hits, found: Recommendations, style: str) -> None:
    from embedsearch.presenters.plain import answers_as_data, answers_as_text

    reasons = None if found.because is None else found.because[0]
    if style == "table":
        if reasons is not None:
            for hit, names in zip(hits, reasons, strict=True):
                hit.metadata["because"] = ", ".join(names)
        print(answers_as_text([label], [hits]))
        return
    data: list[dict[str, Any]] = answers_as_data([label], [hits])
    if reasons is not None:
        for entry, names in zip(data[0]["hits"], reasons, strict=True):
            entry["because"] = names
    print(
        json.dumps(data, ensure_ascii=False, indent=2) if style == "json" else json.dumps(data[0], ensure_ascii=False)
    )
