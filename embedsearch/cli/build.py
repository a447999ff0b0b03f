"""`embedsearch build`."""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Optional

import typer

from embedsearch.cli import options
from embedsearch.cli.app import app
from embedsearch.cli.progress import open_progress
from embedsearch.cli.told import how_it_finds, kept_as, left_out, time_spent
from embedsearch.errors import counted

_LONG = {
    "windows": "texts are longer than the network reads at once: they were read in windows and pooled over all of them",
    "chunk": "texts are longer than the network reads at once: each window of them is an item of its own",
    "cut": "texts are longer than the network reads and were cut",
}

_ONE_LONG = {
    "windows": "text is longer than the network reads at once: it was read in windows and pooled over all of them",
    "chunk": "text is longer than the network reads at once: each window of it is an item of its own",
    "cut": "text is longer than the network reads and was cut",
}

_EXAMPLES = """
Examples:\n
  embedsearch build photos/\n
  embedsearch build photos/ --layer features.22 --pooling gem --whiten 128 --out indexes/photos\n
  embedsearch build 'photos/**/*.jpg' --backbone resnet50\n
  embedsearch build faq.txt\n
  embedsearch build goods.csv --id-column sku --text-column title\n
  embedsearch build letters/ --modality text --chunk\n
  embedsearch build vectors.npy --metric ip\n
  embedsearch build vectors.npy --metadata goods.csv\n
  embedsearch build vectors.npy --recall 0.99 --memory 2GiB\n
  embedsearch build model.pt::item_embedding.weight --ids items.txt\n
  embedsearch build photos/ --layer relu4_3 --layer relu5_3 --flip\n
  embedsearch build photos/ --backbone module:net.py:make --weights w.safetensors --layer block.3\n
  embedsearch build photos/ --backbone keras:model.keras --preprocess caffe --layer block5_conv3\n
"""


@app.command(cls=options.NamingCommand, epilog=_EXAMPLES)
def build(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, a glob, FILE.txt (a text a line), FILE.csv, .jsonl or .parquet, vectors FILE.npy, "
            "FILE::PARAMETER of an embedding table (.pt, .safetensors, .keras, .npz, .vec), or a URL that fsspec opens."
        ),
    ],
    out: Annotated[Optional[Path], typer.Option(help="Folder of the index. Default: indexes/NAME.")] = None,
    recipe: Annotated[
        Optional[Path], typer.Option(help="Recipe fields from a JSON file; options override them.")
    ] = None,
    backbone: Annotated[
        Optional[str],
        typer.Option(
            help="A torchvision name (vgg16, resnet50, ...), bert, minilm, keras:PATH, or "
            "module:FILE_OR_PACKAGE:FACTORY of your own. Default: vgg16 for pictures, minilm for texts."
        ),
    ] = None,
    weights: options.Weights[Optional[str]] = None,
    layer: options.Layer = None,
    layer_weight: options.LayerWeight = None,
    combine: options.Combine[Optional[str]] = None,
    pooling: options.Pooling[Optional[str]] = None,
    gem_p: options.GemP[Optional[float]] = None,
    size: options.Size = None,
    fit: options.Fit[Optional[str]] = None,
    scale: options.Scale = None,
    flip: options.Flip[Optional[bool]] = None,
    preprocess: options.Preprocess = None,
    channels: options.Channels[Optional[str]] = None,
    max_tokens: options.MaxTokens = None,
    overlap: options.Overlap = None,
    chunk: Annotated[
        bool, typer.Option("--chunk", help="Each window of a longer text is an item of its own: id#1, id#2, ...")
    ] = False,
    cut: options.Cut = False,
    pca: Annotated[Optional[int], typer.Option(help="Reduce to this many dimensions by PCA.")] = None,
    whiten: Annotated[Optional[int], typer.Option(help="Reduce to this many dimensions by PCA-whitening.")] = None,
    whiten_power: Annotated[
        Optional[float],
        typer.Option(help="How far --whiten goes: 1 in full, towards 0 as PCA; .5 often finds more. Default: 1."),
    ] = None,
    metric: Annotated[Optional[str], typer.Option(help="cosine, ip or l2. Default: cosine.")] = None,
    normalize: Annotated[
        Optional[bool],
        typer.Option(help="L2-normalise vectors. Default: yes, but not vectors that are given with --metric ip or l2."),
    ] = None,
    modality: Annotated[
        Optional[str], typer.Option(help="image or text, where the source does not tell; tensor for .npy.")
    ] = None,
    ids: options.Ids = None,
    id_prefix: options.IdPrefix = None,
    metadata: options.MetadataFile = None,
    id_column: options.IdColumn = None,
    text_column: options.TextColumn = None,
    image_column: options.ImageColumn = None,
    index: options.IndexKind = None,
    recall: options.Recall = None,
    memory: options.Memory = None,
    latency_ms: options.LatencyMs = None,
    batch_size: options.BatchSize = "auto",
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    threads: options.Threads = None,
    strict: options.Strict = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart",
            help="Begin anew: throw away an unfinished build, replace an index of another recipe, with what was "
            "added to it.",
        ),
    ] = False,
    as_json: options.ReportAsJson = False,
) -> None:
    """Build an index from pictures, texts or vectors.

    An interrupted build goes on where it was when the same command is run again; a finished one is
    brought in line with its source: new and changed inputs are extracted, vanished ones removed. What was
    added from other sources stays, and so does what was promised before, unless it is promised anew.
    """
    from embedsearch.engine.building import build_with_report

    began = time.perf_counter()
    progress = open_progress()
    target = out or Path("indexes") / _name(source)
    try:
        report = build_with_report(
            source, target,
            recipe=recipe, backbone=backbone, weights=weights, preprocess=preprocess, channels=channels,
            layer=layer or None, layer_weights=layer_weight or None, combine=combine, pooling=pooling, gem_p=gem_p,
            size=size, fit=fit, scales=scale or None, flip=flip, max_tokens=max_tokens, overlap=overlap,
            long_texts=options.long_texts(chunk, cut), pca=pca, whiten=whiten, whiten_power=whiten_power,
            metric=metric, normalize=normalize, modality=modality, ids=ids, id_prefix=id_prefix, metadata=metadata,
            id_column=id_column, text_column=text_column, image_column=image_column,
            index=index, recall=recall, memory=memory, latency_ms=latency_ms,
            batch_size=options.auto_int("--batch-size", batch_size),
            precision=None if precision == "auto" else precision, device=device,
            threads=threads, restart=restart, progress=progress,
        )  # fmt: skip
    finally:
        progress.close()
    if as_json:
        fields = (
            "resumed",
            "n_items",
            "n_new",
            "n_known",
            "n_removed",
            "n_guests",
            "n_dropped",
            "n_skipped",
            "n_truncated",
            "up_to_date",
            "reasons",
            "renamed",
            "index",
            "projection",
        )
        told = {name: getattr(report, name) for name in fields}
        told["timing"] = None if report.timing is None else asdict(report.timing)
        print(json.dumps({"path": str(target), **told}, ensure_ascii=False))
    else:
        for line in _told(report, target, time.perf_counter() - began):
            print(line)
    if strict and report.n_skipped:
        raise typer.Exit(3)


def _told(report: object, target: Path, seconds: float) -> list[str]:
    from embedsearch.pipeline.build import BuildReport

    assert isinstance(report, BuildReport)
    if report.up_to_date:
        lines = [f"{target} is up to date: {counted(report.n_items, 'item')}"]
    else:
        inputs, n_new = "", f"{report.n_new:,}"
        if report.long_texts == "chunk":
            inputs, n_new = "texts ", counted(report.n_new, "text")
        about = [f"{n_new} extracted now"]
        about += [f"{report.n_known:,} stored before"] if report.n_known else []
        about += [f"{report.n_removed:,} removed, no longer in the source"] if report.n_removed else []
        about += [f"{report.n_guests:,} {inputs}added from elsewhere and kept"] if report.n_guests else []
        if report.n_dropped:
            gone = "that had been added is gone" if report.n_dropped == 1 else "that had been added are gone"
            about.append(f"{counted(report.n_dropped, 'item')} {gone}")
        lines = [f"{target} holds {counted(report.n_items, 'item')} ({', '.join(about)})"]
    if report.encoder and report.n_new:
        lines.append(f"encoded by {report.encoder}")
    if report.encoder and report.timing is not None:
        around = f"{seconds:,.1f} s in all, with opening the network, choosing its precision and making the index"
        lines.append(f"time      {time_spent(report.timing, report.n_new)}, {around}")
    if report.projection:
        lines.append(f"{'projection':<9} {report.projection}")
    if report.index and not report.up_to_date:
        lines += [f"{label:<9} {line}" for label, line in how_it_finds(report.index)]
    if report.n_truncated:
        long = _LONG[report.long_texts]
        if report.n_truncated == 1:
            long = _ONE_LONG[report.long_texts]
        lines.append(f"{report.n_truncated:,} {long}")
    lines += kept_as(report.renamed)
    lines += left_out(target, report.n_skipped, report.reasons)
    return lines


def _name(source: str) -> str:
    """The name of an index after its source: photos/ -> photos, faq.txt -> faq, photos/*.jpg -> photos."""
    fixed = re.split(r"[*?\[]", source)[0]
    if fixed != source:
        fixed = fixed.rpartition("/")[0]
    path = fixed.partition("://")[2] or fixed
    resolved = Path(path).resolve()
    return (resolved.stem if resolved.suffix and not resolved.is_dir() else resolved.name) or "index"
