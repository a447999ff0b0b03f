"""One size of `scale.py`, measured from within a process of its own: prints one line of JSON.

python benchmarks/scale_child.py build VECTORS.npy FOLDER FAMILY RECALL
python benchmarks/scale_child.py search QUERIES.npy TRUTH.npy FOLDER ROUNDS
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import numpy as np


def status() -> dict[str, float]:
    """Memory of this process in MiB: VmHWM (its peak), RssAnon (its own), RssFile (files it has mapped)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(lines[name].split()[0]) / 1024 for name in ("VmHWM", "RssAnon", "RssFile")}


def peak_mib() -> float:
    return max(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, status()["VmHWM"])


class Stages:
    """A progress that keeps how long each stage took, and how much memory there was at its end."""

    def __init__(self) -> None:
        self.found: list[dict[str, object]] = []
        self._began = time.perf_counter()
        self._label = ""
        self._n, self._total, self._told = 0, 0, 0.0

    def stage(self, label: str, total: int | None = None) -> None:
        self._end()
        self._label, self._began, self._n, self._total = label, time.perf_counter(), 0, total or 0

    def advance(self, n_items: int, n_skipped: int = 0) -> None:
        self._n += n_items
        if time.perf_counter() - self._told > 20:
            self._told = time.perf_counter()
            print(f"    {self._label} {self._n:,} of {self._total:,}", file=sys.stderr, flush=True)

    def close(self) -> None:
        self._end()

    def _end(self) -> None:
        if self._label:
            seconds = time.perf_counter() - self._began
            self.found.append({"stage": self._label, "seconds": round(seconds, 2), **status()})
            print(f"    {self._label}: {seconds:.1f} s, {status()}", file=sys.stderr, flush=True)


def build(vectors: str, folder: str, family: str, recall: float) -> dict[str, object]:
    from embedsearch.engine.building import build_with_report

    stages = Stages()
    began = time.perf_counter()
    build_with_report(vectors, folder, index=family, recall=recall, progress=stages)
    stages.close()
    return {"seconds": time.perf_counter() - began, "peak_mib": peak_mib(), "stages": stages.found}


def search(queries: str, truth: str, folder: str, rounds: int) -> dict[str, object]:
    import embedsearch as es

    began = time.perf_counter()
    index = es.open(folder)
    opening = time.perf_counter() - began
    xq, wanted = np.load(queries), np.load(truth).astype(str)
    k = wanted.shape[1]
    ids, _ = index.search_vectors(xq, k=k)  # reads what is on disk into the cache
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        ids, _ = index.search_vectors(xq, k=k)
        seconds.append(time.perf_counter() - began)
    alone = []
    for row in range(min(len(xq), 300)):
        began = time.perf_counter()
        index.search_vectors(xq[row : row + 1], k=k)
        alone.append(time.perf_counter() - began)
    info = index.info()
    found = np.mean([len(set(a) & set(b)) / k for a, b in zip(ids.tolist(), wanted.tolist(), strict=True)])
    return {
        "open_seconds": opening,
        "recall": float(found),
        "queries_per_s": len(xq) / float(np.median(seconds)),
        "latency_ms": float(np.median(alone)) * 1000,
        "peak_mib": peak_mib(),
        "now_mib": status(),
        "index": {name: info["index"][name] for name in ("family", "build", "search", "bytes_per_vector")},
        "index_bytes": info["index_bytes"],
        "store_bytes": info["store_bytes"],
        "disk_bytes": info["disk_bytes"],
    }


if __name__ == "__main__":
    if sys.argv[1] == "build":
        found = build(sys.argv[2], sys.argv[3], sys.argv[4], float(sys.argv[5]))
    else:
        found = search(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    print(json.dumps(found))
