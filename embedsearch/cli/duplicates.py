"""`embedsearch duplicates`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app
from embedsearch.cli.progress import open_progress
from embedsearch.errors import UsageError, counted

if TYPE_CHECKING:
    from embedsearch.pipeline.duplicates.groups import Duplicates

_EXAMPLES = """
Examples:\n
  embedsearch duplicates indexes/photos\n
  embedsearch duplicates indexes/photos --min-score 0.98 --sheet groups.png\n
  embedsearch duplicates indexes/photos --drop drop.txt\n
  embedsearch delete indexes/photos - < drop.txt\n
  embedsearch duplicates indexes/goods --where "stock > 0" --format jsonl\n
"""


@app.command(epilog=_EXAMPLES)
def duplicates(
    index: options.IndexFolder,
    min_score: Annotated[
        Optional[float], typer.Option(help="Score from which two items are near enough. Default: 0.95 of cosine.")
    ] = None,
    max_distance: Annotated[
        Optional[float], typer.Option(help="The same for an index built with --metric l2: a squared distance.")
    ] = None,
    where: Annotated[Optional[str], typer.Option(help="SQL condition over the metadata; only such items.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Each item near enough to the kept one itself, not by way of others.")
    ] = False,
    exact: Annotated[
        Optional[bool],
        typer.Option(
            "--exact/--approximate",
            help="Compare all pairs, or ask the index. Default: all pairs of up to 100,000 items.",
        ),
    ] = None,
    drop: Annotated[
        Optional[Path],
        typer.Option(help="Write the ids of all but the kept item of each group, for `embedsearch delete`."),
    ] = None,
    sheet: Annotated[Optional[Path], typer.Option(help="Draw the largest groups as one picture.")] = None,
    style: Annotated[str, typer.Option("--format", help="table, json or jsonl.")] = "table",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Find groups of items that are nearly equal, and one of each that is worth keeping.

    Two items are in one group when their score is high enough, or when others link them. The most central item of a
    group is kept. Nothing is deleted.
    """
    style = "json" if as_json else style
    if style not in ("table", "json", "jsonl"):
        raise UsageError(f"format {style!r} is not known; valid: table, json, jsonl")
    if sheet is not None:
        from embedsearch.presenters.sheet import check_path

        check_path(sheet)
    if drop is not None:
        from embedsearch.presenters.out_path import check_writable

        check_writable(drop, f"the list {drop}")
    from embedsearch.engine.opening import open as open_index

    opened = open_index(index)
    if drop is not None and opened.info()["recipe"].get("long_texts") == "chunk":
        raise UsageError(f"{index} holds chunks of texts, which are not deleted one by one; --drop is for whole items")
    found = opened.duplicates(
        min_score=min_score, max_distance=max_distance, where=where, strict=strict, exact=exact,
        progress=open_progress(),
    )  # fmt: skip
    lines = []
    if drop is not None:
        n_dropped = _write_lines(drop, found)
        lines.append(f"{counted(n_dropped, 'id')} to drop in {drop}; then: embedsearch delete {index} - < {drop}")
    _present(found, style)
    if sheet is not None:
        found.save_sheet(sheet)
        lines.append(f"drawn in {sheet}")
    if style == "table":
        print("\n".join([_summary(found), *lines]))


def _write_lines(path: Path, found: Duplicates) -> int:
    ids = list(found.ids_to_drop())
    for item_id in ids:
        if item_id.splitlines() != [item_id] or not item_id.strip():
            raise UsageError(f"the id {item_id!r} cannot stand on a line of {path}; delete it in Python")
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(item_id + "\n" for item_id in ids), encoding="utf-8")
    temporary.replace(path)  # never half a list
    return len(ids)


def _present(found: Duplicates, style: str) -> None:
    from embedsearch.presenters.groups import group_as_data, group_as_text

    if style == "json":
        groups = [group_as_data(group.kept, group.others, group.n_chained) for group in found]
        print(json.dumps({**found.counts(), "groups": groups}, ensure_ascii=False, indent=2))
        return
    for group in found:
        if style == "jsonl":
            print(json.dumps(group_as_data(group.kept, group.others, group.n_chained), ensure_ascii=False))
        else:
            print(group_as_text(group.kept, group.others, group.n_chained) + "\n")


def _summary(found: Duplicates) -> str:
    counts: dict[str, Any] = found.counts()
    how = "all pairs compared" if found.is_exact else "as far as the index finds them"
    told = (
        f"{counted(len(found), 'group')} of {found.n_grouped:,} items among {found.n_items:,} ({how}); "
        f"{counts['n_others']:,} could go"
    )
    if found.n_chained:
        told += (
            f"\n{counted(found.n_chained, 'item')} near enough only to others of a group, not to the kept one; "
            "these are not dropped, and --strict takes such groups apart"
        )
    return told
