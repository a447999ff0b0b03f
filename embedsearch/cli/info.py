"""`embedsearch info`."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app
from embedsearch.cli.told import how_it_finds
from embedsearch.errors import counted

_LONG = {
    "windows": "pooled over all their windows",
    "chunk": "whose windows are items of their own",
    "cut": "cut after their first window",
}

_EXAMPLES = """
Examples:\n
  embedsearch info indexes/photos\n
  embedsearch info indexes/photos --verify --json\n
"""


@app.command(epilog=_EXAMPLES)
def info(
    index: options.IndexFolder,
    verify: Annotated[bool, typer.Option("--verify", help="Compare every byte with what was committed.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show what an index holds, how it was made, how well it finds, and what was left out and why."""
    from embedsearch.engine.opening import open as open_index

    about = open_index(index, verify=verify).info()
    if as_json:
        print(json.dumps(about, ensure_ascii=False, indent=2))
        return
    for label, value in _lines(about):
        print(f"{label:<12} {value}".rstrip())
    if verify:
        print(f"{'verified':<12} every file is what was written")


def _lines(about: dict[str, Any]) -> list[tuple[str, str]]:
    recipe, index = about["recipe"], about["index"]
    lines = [
        ("index", f"{about['path']}, generation {about['generation']} of {about['created']}"),
        ("items", _items(about)),
        (
            "vectors",
            f"{about['dim']} dimensions, {recipe['metric']}, {'' if recipe['normalize'] else 'not '}normalised",
        ),
    ]
    if recipe["backbone"]:
        pooling = recipe["pooling"] + (f" (p = {recipe['gem_p']:g})" if "gem" in recipe["pooling"] else "")
        lines += [
            ("backbone", f"{recipe['backbone']}, {_reads(recipe)}, {recipe['precision']}"),
            ("weights", f"{about['weights_origin']}, sha256 {recipe['weights_sha256'][:16]}…"),
            ("layer", _layers(recipe)),
            ("pooling", pooling),
        ]
    if recipe["pca"] or recipe["whiten"]:
        what = f"PCA to {recipe['pca']}" if recipe["pca"] else _whitened(recipe)
        lines.append(("projection", ", ".join(filter(None, (what, about["projection"])))))
    lines += [
        *how_it_finds(index),
        ("size", f"{_bytes(about['disk_bytes'])} on disk"),
        ("changed", _drift(about["drift"])),
        ("metadata", ", ".join(f"{name} ({kind})" for name, kind in about["metadata_columns"].items()) or "none"),
    ]
    lines += (
        [("renamed", ", ".join(f"{old} -> {new}" for old, new in about["renamed"].items()))] if about["renamed"] else []
    )
    if about["n_truncated"]:
        lines.append(("long texts", f"{about['n_truncated']:,} {_LONG[recipe['long_texts']]}"))
    lines += _unfinished(about)
    lines.append(("left out", counted(about["n_skipped"], "input")))
    lines += [("", f"{count:,} x {reason}") for reason, count in list(about["skipped"].items())[:10]]
    return lines


def _whitened(recipe: dict[str, Any]) -> str:
    power = recipe["whiten_power"]
    return f"whitened to {recipe['whiten']}" + (f" (power {power:g})" if power != 1 else "")


def _unfinished(about: dict[str, Any]) -> list[tuple[str, str]]:
    """What is going on, and what waits to be gone on with."""
    adds, build = about["unfinished_adds"], about["unfinished_build"]
    if about["being_written"]:
        what = f"a build of {build}" if build else "an add, a deletion or an optimize"
        writing = [("writing now", f"{what} by another process; until it has finished, the index answers as before")]
        return writing + [
            ("unfinished", f"an add of {source}, which may be the one that is going on") for source in adds
        ]
    told = [("unfinished", f"an add of {source}; the same add goes on with it") for source in adds]
    if build:
        told.append(("unfinished", f"a build of {build}; its build command goes on with it"))
    return told


def _items(about: dict[str, Any]) -> str:
    own = f"{about['n_items'] - about['n_added']:,} from {about['source']}"
    return own + (f", {about['n_added']:,} added from elsewhere" if about["n_added"] else "")


def _drift(drift: dict[str, Any]) -> str:
    """What came and went since the index file was built."""
    if drift["n_tail"] == drift["n_dead"] == 0:
        return "nothing since its index was built"
    tail = counted(drift["n_tail"], "item") + (" is" if drift["n_tail"] == 1 else " are")
    dead = counted(drift["n_dead"], "place") + " in it" + (" is" if drift["n_dead"] == 1 else " are")
    told = f"{tail} searched exactly beside the index, {dead} dead"
    return told + (f"; `embedsearch optimize` is worth while: {drift['advice']}" if drift["advice"] else "")


def _reads(recipe: dict[str, Any]) -> str:
    """What the network is given of an item."""
    if recipe["modality"] == "text" and recipe["max_tokens"]:
        overlap = "" if recipe["overlap"] is None else f" that share {recipe['overlap']}"
        return f"windows of {recipe['max_tokens']} tokens{overlap}"
    parts = [f"{recipe['modality']}s"]
    if recipe["size"]:
        parts.append(f"at {recipe['size']} px ({recipe['fit']})")
    if recipe["scales"] != [1.0]:
        parts.append("at scales " + ", ".join(f"{scale:g}" for scale in recipe["scales"]))
    parts += ["and mirrored"] if recipe["flip"] else []
    parts += [f"through {recipe['preprocess']}"] if recipe["preprocess"] else []
    return " ".join(parts)


def _layers(recipe: dict[str, Any]) -> str:
    weights = recipe["layer_weights"] or [1.0] * len(recipe["layers"])
    weighted = any(weight != 1 for weight in weights)
    names = [
        f"{name} (weight {weight:g})" if weighted else name
        for name, weight in zip(recipe["layers"], weights, strict=True)
    ]
    how = {"concat": "", "mean": "the mean of "}[recipe["combine"]]
    return how + ", ".join(names)


def _bytes(n: int) -> str:
    size = float(n)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"
