"""Lines that several commands end with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from embedsearch.pipeline.timing import Timing

_MOST = 5  # reasons that are shown


def left_out(index: Path, n_skipped: int, reasons: Mapping[str, int]) -> list[str]:
    """What was skipped, and the most frequent reasons."""
    if n_skipped == 0:
        return []
    were = "input was" if n_skipped == 1 else "inputs were"
    most = sorted(reasons.items(), key=lambda pair: -pair[1])
    lines = [f"{n_skipped:,} {were} left out, listed in {index / 'skipped.jsonl'}:"]
    lines += [f"  {count:,} x {reason}" for reason, count in most[:_MOST]]
    return lines + ([f"  and {len(most) - _MOST} other reasons"] if len(most) > _MOST else [])


def kept_as(renamed: Mapping[str, str]) -> list[str]:
    """Which metadata columns have names that the store cannot keep."""
    pairs = [f"{old!r} as {new}" for old, new in renamed.items()]
    return [f"columns kept under other names: {', '.join(pairs)}"] if pairs else []


def time_spent(timing: Timing, n_inputs: int) -> str:
    """What an extraction spent its time on, and what it waited for."""
    shares = ", ".join(f"{stage} {share:.0%}" for stage, share in timing.shares.items())
    rate = f"{n_inputs / timing.seconds:,.1f} inputs/s over {timing.seconds:,.1f} s"
    return f"{shares} of the work; {timing.limit} was the limit ({timing.busy[timing.limit]:.0%} busy); {rate}"


def advised(index: Path, advice: str | None) -> list[str]:
    """Why it is worth while to fold changes into the index."""
    return [] if advice is None else [f"worth while now: embedsearch optimize {index} ({advice})"]


def how_it_finds(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an index is and was measured to do, as labels and lines. entry: IndexEntry as a mapping."""
    from embedsearch.index.choose import in_mib

    request, tuned, family = entry["request"], entry["tuned"], entry["family"]
    name = entry["build"].get("factory", family)
    limit = request.get("memory_bytes")
    allowed = "" if limit is None else f", at most {in_mib(limit, as_limit=True)} in all promised"
    mapped = f" and {entry['disk_bytes_per_vector']:g} on disk" if entry.get("disk_bytes_per_vector") else ""
    taken = f"{entry['bytes_per_vector']:g} bytes a vector in memory{mapped}{allowed}"
    lines = [("structure", f"{name} ({entry['reason']}), {taken}")]
    promised = f", {request['recall']:g} promised" if request.get("recall") is not None else ""
    if tuned is None:
        known = {None: "not measured", 1.0: "1 (exact)"}.get(entry["recall_at_10"], f"{entry['recall_at_10']}")
        lines.append(("recall@10", known + promised))
        if request.get("latency_ms") is not None:
            lines.append(("speed", f"not measured, {request['latency_ms']:g} ms promised"))
        return lines
    wide = tuned.get("wide")
    measured, n_queries = tuned["measured"], tuned["n_queries"]
    found = f"{measured['recall']:.4f} ({measured['low']:.4f} to {measured['high']:.4f}) on {n_queries:,} queries"
    search = ", ".join(f"{name} {value}" for name, value in entry["search"].items())
    machine = f"{entry['threads']} thread{'s' if entry['threads'] != 1 else ''}, {entry['simd']}"
    in_time = f", {request['latency_ms']:g} ms promised" if request.get("latency_ms") is not None else ""
    speed = (
        f"{measured['queries_per_s']:,.0f} queries/s in batches, {tuned['latency_ms']:.2f} ms a query alone{in_time}"
    )
    return [
        *lines,
        ("recall@10", (found if n_queries else "1 (exact)") + promised),
        *([("recall@100", f"{wide['recall']:.4f} ({wide['low']:.4f} to {wide['high']:.4f})")] if wide else []),
        ("speed", f"{speed} ({search}{'; ' if search else ''}{machine})"),
    ]
