"""What `embedsearch tune` gains on items that it has not seen: by 50 labels, and without any.

Prints two tables; --write puts them on a page.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path

import numpy as np
from data import CACHE
from tuning_sets import KNOWN, N_ITEMS, Set, Some, prepared
from tuning_unlabelled import WITHOUT_LABELS, unlabelled

from embedsearch.evaluate import bootstrapped
from embedsearch.pipeline.tune.candidates import Candidate
from embedsearch.pipeline.tune.labelled import Found, tune_by_labels
from embedsearch.pipeline.tune.sample import Truth
from embedsearch.pipeline.tune.scoring import judged_values
from embedsearch.pipeline.tune.splits import split
from embedsearch.pipeline.tune.sweep import Sweep
from embedsearch.types import NoProgress

N_LABELS, N_SAMPLE, N_DRAWS = 50, 1000, 12
MEASURES = ("mAP", "P@1")


_KEPT = CACHE / "tuning" / "measured"
_BY_LABELS = f"""\
{N_SAMPLE:,} of at most {N_ITEMS:,} items are the sample, of which {N_LABELS} have labels: labels are drawn at random,
and of each all four drawings of an emoji, or five items of the other sets. Projections are fitted and the choice is
made on the sample alone; the items that are not in it judge, with projections fitted on them as a build fits them.
Each draw is made anew from the same items, so draws share some. Means over draws of the difference to the default,
which is 0 where the default was kept, with 95 % intervals over the draws. Told: the mean of what tune itself said of
the difference where it took another than the default."""


def judged(data: Set, candidate: Candidate, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Values of a candidate by rows, with its projection fitted on all of them, as a build fits it."""
    sweep = Sweep(Some(data, rows), np.arange(len(rows)))  # type: ignore[arg-type]
    (x,) = sweep.vectors(candidate, np.arange(len(rows)))
    return judged_values(x, Truth.of_groups(data.labels[rows]))


def tuned(data: Set, rng: np.random.Generator) -> tuple[Found, np.ndarray]:
    """What tune finds on a sample of N_SAMPLE items, N_LABELS of them with labels; and rows that were not in it."""
    order = rng.permutation(len(data.items))
    labelled: list[int] = []
    for label in rng.permutation(np.unique(data.labels)):
        labelled += order[data.labels[order] == label][: data.per_label].tolist()
        if len(labelled) >= N_LABELS:
            break
    labelled = labelled[:N_LABELS]
    others = order[~np.isin(order, labelled)]
    sample = np.concatenate([labelled, others[: N_SAMPLE - N_LABELS]])
    parts = split(Truth.of_groups(data.labels[sample[:N_LABELS]]), N_SAMPLE)
    singles = [Candidate((cell.layer,), cell.pooling) for cell in data.pooled.cells]
    sweep = Sweep(Some(data, sample), parts.fit)  # type: ignore[arg-type]
    found = tune_by_labels(sweep, singles, data.default, parts, NoProgress())
    return found, np.sort(others[N_SAMPLE - N_LABELS :])


def draw(data: Set, seed: int) -> tuple[bool, float, dict[str, float]]:
    """Whether another than the default was taken, what tune said of its mAP, and the mean difference to the default on
    unseen rows."""
    found, rows = tuned(data, np.random.default_rng([seed, 1]))
    if found.taken == data.default:
        return False, 0.0, dict.fromkeys(MEASURES, 0.0)
    mine, theirs = judged(data, found.taken, rows), judged(data, data.default, rows)
    apart = {name: float(np.nanmean(mine[name] - theirs[name])) for name in MEASURES}
    print(data.name, seed, found.taken, *(f"{value:+.4f}" for value in apart.values()), file=sys.stderr, flush=True)
    return True, found.difference["mAP"].mean, apart


_SETS: dict[str, Set | None] = {}  # of a process


def _draw(name: str, seed: int) -> tuple[bool, float, dict[str, float]]:
    if name not in _SETS:
        _SETS.clear()
        _SETS[name] = prepared(name)
    data = _SETS[name]
    assert data is not None
    return draw(data, seed)


def row_of(data: Set, n_draws: int) -> str:
    with ProcessPoolExecutor(max(cpu_count() or 1, 1), get_context("spawn")) as pool:
        done = list(pool.map(_draw, [data.name] * n_draws, range(n_draws)))
    gains = {name: np.array([apart[name] for *_, apart in done]) for name in MEASURES}
    told = [bootstrapped(values) for values in gains.values()]
    said = [value for taken, value, _ in done if taken]
    return (
        f"| {data.name} | {n_draws} | {len(said)} | {int((gains['mAP'] < 0).sum())} | "
        + " | ".join(f"{f.mean:+.4f} ({f.low:+.4f} to {f.high:+.4f})" for f in told)
        + f" | {gains['mAP'].min():+.4f} | {np.mean(said) if said else float('nan'):+.4f} |"
    )


@cache
def whole(data: Set) -> tuple[list[Candidate], np.ndarray]:
    """Single layers without a projection, and their mAP by labels on N_SAMPLE items of a set, of whole labels."""
    order = np.random.default_rng(0).permutation(data.labels.max() + 1)[data.labels]
    rows = np.sort(np.argsort(order, kind="stable")[:N_SAMPLE])
    singles = [Candidate((cell.layer,), cell.pooling) for cell in data.pooled.cells]
    return singles, np.array([float(np.nanmean(judged(data, single, rows)["mAP"])) for single in singles])


def best_there_is(data: Set) -> str:
    singles, values = whole(data)
    best = int(values.argmax())
    return (
        f"- {data.name}: {data.about}. The default, {data.default}, has mAP "
        f"{values[singles.index(data.default)]:.4f} on {N_SAMPLE:,} items; of single layers without projection, "
        f"{singles[best]} has most, {values[best]:.4f}."
    )


def measured(data: Set, n_draws: int) -> None:
    """Prints the lines of the page about one set, and keeps each on disk as soon as it is known."""
    _KEPT.mkdir(parents=True, exist_ok=True)
    for part, line in (
        ("labels", lambda: row_of(data, n_draws)),
        ("best", lambda: best_there_is(data)),
        ("none", lambda: unlabelled(data, *whole(data), judged)),
    ):
        told = line()
        print(told, flush=True)
        (_KEPT / f"{part}-{data.name}").write_text(told, encoding="utf-8")


def kept(part: str) -> list[str]:
    """A line of each set that was measured, in this run or an earlier one."""
    files = [_KEPT / f"{part}-{name}" for name in KNOWN]
    return [file.read_text(encoding="utf-8") for file in files if file.exists()]


def page() -> str:
    return "\n".join(
        [
            "# What tuning gains",
            "",
            "Printed by `benchmarks/tuning.py`.",
            "",
            "## By 50 labels",
            "",
            _BY_LABELS,
            "",
            "| set | draws | another than the default | worse by mAP | mAP | P@1 | worst draw, mAP | told, mAP |",
            "|---|---|---|---|---|---|---|---|",
            *kept("labels"),
            "",
            *kept("best"),
            "",
            "## Without labels",
            "",
            WITHOUT_LABELS,
            "",
            "| set | by task | mean rank | least agreement | it says | the best by all tasks gains, mAP |",
            "|---|---|---|---|---|---|",
            *kept("none"),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=list(KNOWN), default=list(KNOWN))
    parser.add_argument("--draws", type=int, default=N_DRAWS)
    parser.add_argument(
        "--write", type=Path, help="the page, docs/tune-measured.md; sets not run keep their last lines"
    )
    options = parser.parse_args()
    for name in options.sets:
        data = prepared(name)
        if data is not None:
            measured(data, options.draws)
    if options.write:
        options.write.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
