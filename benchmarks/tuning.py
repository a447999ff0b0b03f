"""What tuning gains on items that it has not seen: by 50 random labels, and without any."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

import embedsearch as es
from embedsearch.errors import UsageError
from embedsearch.evaluate import bootstrapped
from embedsearch.pipeline.tune.candidates import Candidate, Cell, candidate_layers
from embedsearch.pipeline.tune.labelled import tune_by_labels
from embedsearch.pipeline.tune.pooled import Pooled, pool_sample
from embedsearch.pipeline.tune.sample import Truth
from embedsearch.pipeline.tune.scoring import judged_values
from embedsearch.pipeline.tune.splits import split
from embedsearch.pipeline.tune.sweep import Sweep
from embedsearch.pipeline.tune.tapped import TappedNetwork
from embedsearch.types import Item, NoProgress

sys.path.insert(0, str(Path(__file__).parent))
from data import CACHE, SHARED

N_ITEMS, N_LABELS, N_UNLABELLED, N_DRAWS = 1500, 50, 250, 40


@dataclass(frozen=True, eq=False)
class Set:
    """Items with labels, their vectors at every layer and pooling, and the default of a build."""

    name: str
    items: list[Item]
    labels: np.ndarray
    pooled: Pooled
    default: Candidate

    @cache  # noqa: B019 - lives as long as the run
    def vectors(self, cell: Cell) -> np.ndarray:
        return self.pooled.vectors(cell)


@dataclass(frozen=True)
class Some:
    """The pooled arrays of some rows of a set."""

    of: Set
    rows: np.ndarray

    @property
    def cells(self) -> dict[Cell, int]:
        return self.of.pooled.cells

    def vectors(self, cell: Cell, view: int = 0) -> np.ndarray:
        return self.of.vectors(cell)[self.rows]


def grocery() -> tuple[list[Item], list[str]] | None:
    folder = SHARED / "grocery"
    if not folder.exists():
        return None
    lines = [
        line.split(",")
        for part in ("test", "val")
        for line in (folder / f"{part}.txt").read_text().splitlines()
        if line
    ]
    return [Item(line[0].strip(), uri=str(folder / line[0].strip())) for line in lines], [line[1] for line in lines]


def banking() -> tuple[list[Item], list[str]] | None:
    file = SHARED / "banking77" / "banking_data" / "train.csv"
    if not file.exists():
        return None
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    return [Item(str(n), content=row["text"]) for n, row in enumerate(rows)], [row["category"] for row in rows]


def prepared(name: str, found: tuple[list[Item], list[str]], encoder: es.Encoder) -> Set:
    """N_ITEMS drawn with a seed, and one pass over them that is kept on disk."""
    items, labels = found
    drawn = np.sort(np.random.default_rng(0).permutation(len(items))[:N_ITEMS])
    items = [items[at] for at in drawn]
    default = Candidate(encoder.recipe.layers, encoder.recipe.pooling)
    encoder.tap(candidate_layers(encoder.backbone, ()))
    contents = [item.content or item.uri for item in items]
    encoder.settle_precision(contents[:16])
    folder = CACHE / "tuning" / name
    folder.mkdir(parents=True, exist_ok=True)
    pooled = pool_sample(
        items,
        encoder,
        encoder.network_of(TappedNetwork, encoder.recipe),
        lambda some, view: [item.content or item.uri for item in some],
        ["itself"],
        folder,
        NoProgress(),
    )
    return Set(name, items, np.unique([labels[at] for at in drawn], return_inverse=True)[1], pooled, default)


def truth_of(groups: np.ndarray) -> Truth:
    same = groups[:, None] == groups[None, :]
    np.fill_diagonal(same, False)
    return Truth(same, np.unique(groups, return_inverse=True)[1])


def unseen(data: Set, candidate: Candidate, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Values of a candidate on rows, with its projection fitted on all of them, as a build fits it."""
    sweep = Sweep(Some(data, rows), np.arange(len(rows)))  # type: ignore[arg-type]
    (x,) = sweep.vectors(candidate, np.arange(len(rows)))
    return judged_values(x, truth_of(data.labels[rows]))


def draws(data: Set, n_draws: int) -> list[str]:
    """Lines of the table: how much 50 random labels gain."""
    gains: dict[str, list[float]] = {"mAP": [], "P@1": []}
    taken: list[str] = []
    n_refused = 0
    score = cache(lambda candidate, rows: unseen(data, candidate, np.frombuffer(rows, np.int64)))
    for seed in range(n_draws):
        order = np.random.default_rng(seed).permutation(len(data.items))
        asked, judged = order[: N_LABELS + N_UNLABELLED], np.sort(order[N_LABELS + N_UNLABELLED :])
        truth = truth_of(data.labels[asked[:N_LABELS]])
        try:
            parts = split(truth, len(asked))
        except UsageError:
            n_refused += 1
            continue
        singles = [Candidate((cell.layer,), cell.pooling) for cell in data.pooled.cells]
        sweep = Sweep(Some(data, asked), parts.fit)  # type: ignore[arg-type]
        found = tune_by_labels(sweep, singles, data.default, truth, parts, NoProgress())
        taken.append(str(found.taken))
        if found.taken == data.default:
            apart = dict.fromkeys(gains, 0.0)
        else:
            key = judged.tobytes()
            mine, theirs = score(found.taken, key), score(data.default, key)
            apart = {name: float(np.nanmean(mine[name] - theirs[name])) for name in gains}
        for name, value in apart.items():
            gains[name].append(value)
        print(seed, found.taken, f"{apart['mAP']:+.3f} {apart['P@1']:+.3f}", found.verdict[:60], file=sys.stderr)
    other = sum(each != str(data.default) for each in taken)
    told = {name: bootstrapped(np.array(values)) for name, values in gains.items()}
    worst = min(gains["mAP"], default=float("nan"))
    return [
        f"| {data.name} | {len(taken)} | {n_refused} | {other} | "
        + " | ".join(f"{f.mean:+.4f} ({f.low:+.4f} to {f.high:+.4f})" for f in told.values())
        + f" | {worst:+.4f} |"
    ]


def best_there_is(data: Set) -> str:
    """What the best single layer and pooling gains on all items, for comparison."""
    rows = np.arange(len(data.items))
    default = unseen(data, data.default, rows)
    values = {cell: unseen(data, Candidate((cell.layer,), cell.pooling), rows)["mAP"] for cell in data.pooled.cells}
    best = max(values, key=lambda cell: float(np.nanmean(values[cell])))
    return (
        f"{data.name}: of single layers without projection, {best.layer} with {best.pooling} has mAP "
        f"{np.nanmean(values[best]):.4f}, the default ({data.default}) {np.nanmean(default['mAP']):.4f}."
    )


def sets(names: Sequence[str]) -> list[Set]:
    known = {
        "groceries": (grocery, partial(es.Encoder, "vgg16", weights="packaged", pooling="auto", size=128)),
        "banking77": (banking, partial(es.Encoder, "minilm")),
    }
    found = []
    for name, (read, make) in known.items():
        data = read() if name in names else None
        if data is not None:
            found.append(prepared(name, data, make()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=["groceries", "banking77"])
    parser.add_argument("--draws", type=int, default=N_DRAWS)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    lines = [
        f"{N_LABELS} random items have labels, {N_UNLABELLED} more have none; the rest of {N_ITEMS:,} items judges,",
        "with projections fitted on it as a build fits them. Means over draws of the difference to the default.",
        "",
        "| set | draws | refused | another than the default | mAP | P@1 | worst draw, mAP |",
        "|---|---|---|---|---|---|---|",
    ]
    found = sets(options.sets)
    for data in found:
        lines += draws(data, options.draws)
        print(lines[-1], flush=True)
    lines += ["", *map(best_there_is, found)]
    print("\n".join(lines))
    if options.write:
        options.write.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
