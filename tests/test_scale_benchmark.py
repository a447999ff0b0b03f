"""The vectors of benchmarks/scale.py are a function of their seed, and its figures are judged."""

import sys
from pathlib import Path

import numpy as np
import oracle
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))
import scale_data
from scale_report import Size, table


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(scale_data, "BLOCK", 512)


def test_a_smaller_set_is_the_beginning_of_a_larger_one(tmp_path):
    scale_data.Mixture().write(tmp_path / "small.npy", 700)
    scale_data.Mixture().write(tmp_path / "large.npy", 1500)
    small, large = np.load(tmp_path / "small.npy"), np.load(tmp_path / "large.npy")
    assert small.shape == (700, 128) and small.dtype == np.float32 and sorted(tmp_path.iterdir())[0].name == "large.npy"
    np.testing.assert_array_equal(small, large[:700])
    np.testing.assert_allclose(np.linalg.norm(large, axis=1), 1, rtol=1e-5)
    assert len(np.unique(large, axis=0)) == 1500
    assert (large @ scale_data.Mixture().queries(50).T).max() < 0.9999, "queries are in no set"


def test_truth_is_that_of_brute_force():
    mixture = scale_data.Mixture()
    x, xq = np.concatenate([mixture.block(0), mixture.block(1)]), mixture.queries(20)
    rows = scale_data.exact_neighbours(x, xq, 5)
    scores = np.take_along_axis(oracle.scores_of(xq, x, "ip"), rows, axis=1).astype(np.float32)
    oracle.assert_is_best(rows, scores, xq, x, "ip", 5)


def test_local_dimension_tells_the_dimension_of_a_plane():
    rng = np.random.default_rng(0)

    def near_one_point(n):
        x = np.ones((n, 40)) * 0.2 + np.pad(rng.uniform(-0.1, 0.1, (n, 3)), ((0, 0), (0, 37)))
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    assert scale_data.local_dimension(near_one_point(4000), near_one_point(200), k=50) == pytest.approx(3, abs=0.6)


def test_what_is_missed_is_told():
    searched = {
        "recall": 0.94, "peak_mib": 900.0, "queries_per_s": 5000.0, "latency_ms": 0.3, "open_seconds": 1.0,
        "disk_bytes": 2**30, "store_bytes": 2**29, "index": {"bytes_per_vector": 44.0},
    }  # fmt: skip
    stages = [{"stage": "storing", "seconds": 1.0}, {"stage": "indexing (ivf, about 5MiB)", "seconds": 2.0}]
    size = Size(1000, {"seconds": 3.0, "peak_mib": 2000.0, "stages": stages}, searched)
    assert size.missed(0.95, 1500) == ["recall 0.9400, not 0.95", "2,000 MiB, more than 1,500"]
    assert size.missed(0.94, 2000) == []
    lines = table([size])
    assert lines[2].startswith("| 1,000 | 3 | 2,000 | 900 | 44 | 0.9400 | 5,000 | 0.30 | 1.0 | 1,024 | 512 |")
    assert lines[-1] == "| 1,000 | 1.0 | 2.0 |"
