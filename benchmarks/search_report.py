"""Tables and pictures of what `ann.py` measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from curves import front, speed_at
from libraries import K
from ours import FAMILY, Ours, OursIndexOnly
from rounds import LATENCY_RECALL, Measured
from search_sets import SearchSet
from targets import Ratio

RECALLS = (0.90, 0.95, 0.99)
# Okabe and Ito's colours, which the colour-blind tell apart; ours in black
_LOOKS = {
    Ours.name: ("#000000", "o", "-"),
    OursIndexOnly.name: ("#000000", "", ":"),
    "hnswlib": ("#0072B2", "s", "-"),
    "usearch f16": ("#E69F00", "^", "-"),
    "FAISS HNSW": ("#009E73", "D", "-"),
    "voyager": ("#CC79A7", "v", "-"),
    "SVS f16": ("#D55E00", "P", "-"),
}
_TICKS = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
_COMPILED = ("", "embedsearch compiles its loops on a machine's first use; nothing here counts that.")
_FULL = 0.9995  # where recall 1 is drawn


def heading(data: SearchSet, rounds: int) -> list[str]:
    n, dim = data.xb.shape
    return [
        f"## {data.name.capitalize()}: {n:,} x {dim}",
        "",
        f"{data.about}, cosine; {len(data.xq):,} queries that are not in the index, k = {K}; "
        f"medians of {rounds} {'rounds' if rounds > 1 else 'round'}.",
        "",
    ]


def speeds(results: Sequence[Measured]) -> list[str]:
    """The table of all libraries."""
    lines = [
        "| library | built with | build s | bytes a vector in memory | on disk | one query, µs | "
        + " | ".join(f"queries/s at {r:.2f}" for r in RECALLS)
        + " |",
        f"|---|---|{'---|' * (4 + len(RECALLS))}",
    ]
    for result in results:
        build = result.build
        at = [speed_at(result.points, recall) for recall in RECALLS]
        cells = [
            f"{result.library.name} {result.library.version}",
            result.library.settings,
            f"{build.seconds:.1f}{'' if build.now else f' ({build.built})'}",
            "-" if build.memory_bytes is None else f"{build.memory_bytes:,.0f}",
            f"{build.disk_bytes:,.0f}",
            "-" if result.micros is None else f"{result.micros:,.0f}",
            *("-" if speed is None else str(speed) for speed in at),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def verdicts(ratios: Sequence[Ratio]) -> list[str]:
    """Ours to the peers."""
    lines = [f"| ours to theirs | {Ours.name} | index only | target | |", "|---|---|---|---|---|"]
    for ratio in ratios:
        verdict = {None: "", True: "met", False: "**missed**"}[ratio.is_met]
        lines.append(f"| {ratio.what} | {_figure(ratio.api)} | {_figure(ratio.inside)} | {ratio.target} | {verdict} |")
    return [*lines, ""]


def _figure(ratio: float | None) -> str:
    if ratio is None:
        return "-"
    return "theirs does not get there" if math.isinf(ratio) else f"{ratio:.2f}"


def sweeps(results: Sequence[Measured]) -> list[str]:
    """Every point that was taken."""
    lines = ["| library | effort: recall@10, queries/s |", "|---|---|"]
    for result in results:
        points = "; ".join(f"{p.effort:g}: {p.recall:.4f}, {p.qps:,.0f}" for p in result.points)
        lines.append(f"| {result.library.name}, {result.library.effort_name} | {points} |")
    return [*lines, ""]


def notes() -> list[str]:
    """How to read the tables."""
    judged = "by the public API"
    return [
        "Recall@10 is the share of answers that score as much as the true tenth by exact search. Speeds at a recall "
        "are read off each one's own sweep, its logarithm linear in recall between the best points; `-` where the "
        'sweep does not get there. ">=" stands where even its least effort finds more: the fastest it has for that '
        f"recall, which the ratios take. Batches are the whole query set, in 2 threads. One query at a time: "
        f"median, at the first effort of the sweep with recall {LATENCY_RECALL}.",
        "",
        "Bytes in memory: by how much a process grows that loads the index and answers all queries, divided by the "
        "vectors; it holds one copy already, so that what a library takes but once is not counted. Build seconds "
        "run from the matrix in memory to the finished index, a date where a kept index was built on another day; "
        "ours by the public API also writes the store and measures its own recall, and on disk it has the store with "
        "the vectors beside the index. hnswlib is compiled by pip for the machine, the others are wheels that choose "
        "their instructions when they run. SVS's compressed vectors (LVQ, LeanVec) run on processors of Intel alone "
        f"and are not compared. The targets are judged {judged}.",
        *(_COMPILED if FAMILY == "graph" else ()),
        "",
    ]


def draw(data: SearchSet, results: Sequence[Measured], path: Path) -> None:
    """Queries per second over recall as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = {"svg.hashsalt": data.name, "font.size": 12, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure, axes = plt.subplots(figsize=(8.4, 5.2), layout="constrained")
        lowest = max(0.5, min(0.9, *(front(r.points)[0].recall for r in results)))
        for result in results:
            colour, marker, line = _LOOKS.get(result.library.name, ("#56B4E9", "x", "-"))
            points = [p for p in front(result.points) if p.recall >= lowest]
            axes.plot(
                [_place(p.recall) for p in points],
                [p.qps for p in points],
                color=colour,
                marker=marker,
                linestyle=line,
                linewidth=2.6 if colour == "#000000" else 1.6,
                markersize=6,
                label=result.library.name,
            )
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.yaxis.set_minor_formatter(lambda value, _: f"{value:,.0f}" if f"{value:.0e}"[0] in "25" else "")
        ticks = [tick for tick in _TICKS if tick >= lowest - 0.02]
        axes.set_xticks([_place(tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
        axes.grid(which="major", color="#DDDDDD", linewidth=0.8)
        axes.grid(which="minor", axis="y", color="#EEEEEE", linewidth=0.5)
        axes.set_axisbelow(True)
        axes.set_xlabel("recall@10 (the scale widens towards 1)")
        axes.set_ylabel("queries/s, 2 threads")
        n, dim = data.xb.shape
        axes.set_title(f"{data.name}: {n:,} x {dim}", loc="left", fontsize=13)
        axes.legend(loc="lower left", frameon=False, fontsize=11)
        figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)


def _place(recall: float) -> float:
    return -math.log10(1 - min(recall, _FULL))
