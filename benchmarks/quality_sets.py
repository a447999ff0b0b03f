"""The sets of the table of quality.py: what asks, what answers, which answers are right, and pooled vectors of both."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import embedsearch as es
from embedsearch.backbones import open_backbone
from embedsearch.decoders import decode_image, fit_image
from embedsearch.pooling import pool
from embedsearch.vectors import l2_normalize

sys.path.insert(0, str(Path(__file__).parent))
from data import CACHE, SHARED, cranfield, emoji_folders

POOLED = CACHE / "quality"
PICTURE_LAYERS = ("features.15", "features.18", "features.20", "features.22", "features.27", "features.29")
PICTURE_POOLINGS = ("mean", "gem", "rmac", "gem-grid3x3")
TEXT_LAYERS = ("hidden.-3", "hidden.-2", "hidden.-1")
TEXT_POOLINGS = ("mean", "mean-content", "max")
BATCH = 16

Key = tuple[str, str]  # layer and pooling
Pooled = Callable[[Key], np.ndarray]


@dataclass(frozen=True)
class Task:
    """Some rows ask, others answer. grades: whether it is right, asking x answering. measure: P@1, mAP or nDCG@10."""

    queries: Pooled
    database: Pooled
    grades: np.ndarray  # bool, asking x answering
    measure: str


def pictures(name: str, paths: Sequence[Path], size: int) -> Pooled:
    """Pooled vectors of pictures through VGG16 at every layer and pooling, from one pass that is kept on disk."""

    def file(key: Key) -> Path:
        return POOLED / f"{name}-{size}-{key[0]}-{key[1]}.npy"

    keys = [(layer, pooling) for layer in PICTURE_LAYERS for pooling in PICTURE_POOLINGS]
    if not all(file(key).exists() for key in keys):
        POOLED.mkdir(parents=True, exist_ok=True)
        backbone = open_backbone("vgg16", weights="packaged", size=size)
        backbone = backbone.in_bfloat16() if backbone.has_bfloat16() else backbone
        parts: dict[Key, list[np.ndarray]] = {key: [] for key in keys}
        for start in range(0, len(paths), BATCH):
            images = [fit_image(decode_image(p.read_bytes(), size), size) for p in paths[start : start + BATCH]]
            for layer, features in backbone.extract(images, PICTURE_LAYERS).items():
                for pooling in PICTURE_POOLINGS:
                    parts[layer, pooling].append(pool(features, pooling).numpy().astype(np.float16))
        for key, found in parts.items():
            np.save(file(key), np.concatenate(found))
    return lambda key: l2_normalize(np.load(file(key)).astype(np.float32))


def texts(name: str, lines: Sequence[str], long_texts: str = "windows") -> Pooled:
    """The same of texts through MiniLM, a pass for each pooling."""

    def file(pooling: str) -> Path:
        return POOLED / f"{name}-{pooling}.npy"

    POOLED.mkdir(parents=True, exist_ok=True)
    for pooling in TEXT_POOLINGS:
        if not file(pooling).exists():
            encoder = es.Encoder("minilm", layer=list(TEXT_LAYERS), pooling=pooling, long_texts=long_texts)
            np.save(file(pooling), encoder.encode([line or "-" for line in lines]))

    def pooled(key: Key) -> np.ndarray:
        parts = np.split(np.load(file(key[1])), len(TEXT_LAYERS), axis=1)
        return l2_normalize(np.ascontiguousarray(parts[TEXT_LAYERS.index(key[0])]))

    return pooled


def rows(pooled: Pooled, chosen: np.ndarray) -> Pooled:
    return lambda key: pooled(key)[chosen]


def emoji(vendors: tuple[str, str]) -> Task:
    """Drawings of the first vendor ask for the same code among those of the second."""
    folders, names = emoji_folders(vendors)
    asking, answering = (
        pictures(f"emoji-{vendor}", [folders[vendor] / name for name in names], 96) for vendor in vendors
    )
    return Task(asking, answering, np.eye(len(names), dtype=bool), "P@1")


def grocery(odd: bool) -> list[tuple[str, Task]] | None:
    """Photos of the test part ask those of the validation part, and iconic pictures ask photos of the test part; of
    products with odd or even numbers alone. None when the data is not there."""
    folder = SHARED / "grocery"
    if not folder.exists():
        return None
    pooled, labels = {}, {}
    for part in ("test", "val"):
        lines = [line.split(",") for line in (folder / f"{part}.txt").read_text().splitlines() if line.strip()]
        pooled[part] = pictures(f"grocery-{part}", [folder / line[0].strip() for line in lines], 224)
        labels[part] = np.array([int(line[1]) for line in lines])
    with (folder / "classes.csv").open(newline="") as opened:
        products = list(csv.DictReader(opened))
    paths = [folder / product["Iconic Image Path (str)"].lstrip("/") for product in products]
    pooled["iconic"] = pictures("grocery-iconic", paths, 224)
    labels["iconic"] = np.array([int(product["Class ID (int)"]) for product in products])
    tasks = []
    for asking, answering, measure in (("test", "val", "P@1"), ("iconic", "test", "mAP")):
        q, d = (np.flatnonzero(labels[part] % 2 == odd) for part in (asking, answering))
        q = q[np.isin(labels[asking][q], labels[answering][d])]
        right = labels[asking][q][:, None] == labels[answering][d][None, :]
        tasks.append(
            (f"{asking} -> {answering}", Task(rows(pooled[asking], q), rows(pooled[answering], d), right, measure))
        )
    return tasks


def banking(tuning: bool) -> Task | None:
    """Questions ask for one of the same intent: those of the test part among those of the training part; for tuning,
    every fourth of the training part among its others."""
    folder = SHARED / "banking77" / "banking_data"
    if not folder.exists():
        return None
    pooled, intents = {}, {}
    for part in ("train", "test"):
        with (folder / f"{part}.csv").open(newline="", encoding="utf-8") as opened:
            found = list(csv.DictReader(opened))
        pooled[part] = texts(f"banking-{part}", [row["text"] for row in found])
        intents[part] = np.array([row["category"] for row in found])
    if not tuning:
        right = intents["test"][:, None] == intents["train"][None, :]
        return Task(pooled["test"], pooled["train"], right, "P@1")
    fourth = np.arange(len(intents["train"])) % 4 == 0
    q, d = np.flatnonzero(fourth), np.flatnonzero(~fourth)
    right = intents["train"][q][:, None] == intents["train"][d][None, :]
    return Task(rows(pooled["train"], q), rows(pooled["train"], d), right, "P@1")


def cranfield_half(odd: bool) -> Task | None:
    """Every second query asks all abstracts."""
    found = cranfield()
    if found is None:
        return None
    documents, queries, grades = found
    asked = np.arange(len(queries)) % 2 == odd
    right = np.array([[number in grade for number in documents] for grade in grades])
    keep = np.flatnonzero(asked & right.any(axis=1))
    return Task(
        rows(texts("cranfield-queries", queries), keep),
        texts("cranfield", list(documents.values())),
        right[keep],
        "nDCG@10",
    )
