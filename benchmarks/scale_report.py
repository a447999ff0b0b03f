"""Growth as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MIB = 2**20


@dataclass(frozen=True)
class Size:
    """What was measured with n vectors: by the child that built, and by the one that searched."""

    n: int
    built: dict[str, Any]
    searched: dict[str, Any]

    @property
    def peak_mib(self) -> float:
        return max(self.built["peak_mib"], self.searched["peak_mib"])

    def missed(self, recall: float, limit_mib: float) -> list[str]:
        found = []
        if self.searched["recall"] < recall:
            found.append(f"recall {self.searched['recall']:.4f}, not {recall}")
        if self.peak_mib > limit_mib:
            found.append(f"{self.peak_mib:,.0f} MiB, more than {limit_mib:,.0f}")
        return found

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def table(sizes: Sequence[Size]) -> list[str]:
    lines = [
        "| vectors | build s | peak MiB, building | peak MiB, searching | index bytes a vector | recall@10 "
        "| queries/s, 2,000 at once | one query, ms | opening s | disk MiB | of it the store |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for size in sizes:
        b, s = size.built, size.searched
        lines.append(
            f"| {size.n:,} | {b['seconds']:,.0f} | {b['peak_mib']:,.0f} | {s['peak_mib']:,.0f} "
            f"| {s['index']['bytes_per_vector']:.0f} | {s['recall']:.4f} | {s['queries_per_s']:,.0f} "
            f"| {s['latency_ms']:.2f} | {s['open_seconds']:.1f} | {s['disk_bytes'] / MIB:,.0f} "
            f"| {s['store_bytes'] / MIB:,.0f} |"
        )
    lines += ["", "Seconds of each stage:", ""]
    stages = [stage["stage"].partition(" (")[0] for stage in sizes[-1].built["stages"]]
    lines += ["| vectors | " + " | ".join(stages) + " |", "|---" * (len(stages) + 1) + "|"]
    for size in sizes:
        seconds = " | ".join(f"{stage['seconds']:,.1f}" for stage in size.built["stages"])
        lines.append(f"| {size.n:,} | {seconds} |")
    return lines


def draw(sizes: Sequence[Size], path: Path) -> None:
    """Four panels over the number of vectors, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    panels = [
        ("seconds to build", [size.built["seconds"] for size in sizes]),
        ("peak MiB", [size.peak_mib for size in sizes]),
        ("queries/s at the promised recall", [size.searched["queries_per_s"] for size in sizes]),
        ("MiB on disk", [size.searched["disk_bytes"] / MIB for size in sizes]),
    ]
    style = {"svg.hashsalt": "scale", "font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        figure, axes = plt.subplots(2, 2, figsize=(8.4, 6.4), layout="constrained")
        for one, (title, values) in zip(axes.flat, panels, strict=True):
            one.plot([size.n for size in sizes], values, color="#000000", marker="o", linewidth=1.8)
            for size, value in zip(sizes, values, strict=True):
                one.annotate(f"{value:,.0f}", (size.n, value), textcoords="offset points", xytext=(0, 8), ha="center")
            one.set_xscale("log")
            one.set_yscale("log")
            one.set_ylim(min(values) / 2, max(values) * 2)
            one.margins(x=0.15)
            one.set_title(title, loc="left", fontsize=12)
            one.grid(which="major", color="#DDDDDD", linewidth=0.8)
            one.set_axisbelow(True)
        for one in axes[1]:
            one.set_xlabel("vectors")
        figure.savefig(path, dpi=100, metadata={"Date": None} if path.suffix == ".svg" else None)
        plt.close(figure)
