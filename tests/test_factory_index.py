"""FAISS factory strings: what they make finds, filters and saves as every family; what cannot be used is refused."""

import faiss
import numpy as np
import pytest
from oracle import recall_of

from embedsearch.errors import UsageError
from embedsearch.index.factory import FactoryIndex
from embedsearch.types import Metric
from embedsearch.vectors import l2_normalize

# string -> recall@10 of the most thorough search, at least; lower where codes are coarse and nothing refines them
USABLE = {
    "Flat": 1.0,
    "SQ8": 0.9,
    "PQ16x4fs,RFlat": 0.99,
    "HNSW32": 0.99,
    "HNSW16,SQ8": 0.9,
    "IVF16,Flat": 0.99,
    "IVF16,PQ32x4fs,RFlat": 0.99,
    "IVF16,Flat,Refine(SQfp16)": 0.99,
    "IVF16_HNSW8,SQ8": 0.9,
    "PCA16,IVF16,SQ8": 0.3,
    "RR32,PQ16x4fs,RFlat": 0.99,
    "PCA16,HNSW16,RFlat": 0.95,
    "IVF16,RaBitQfs,RFlat": 0.99,
}


@pytest.fixture(scope="module")
def spread():
    """2000 x 32 of overlapping clusters."""
    rng = np.random.default_rng(3)
    centres = rng.standard_normal((20, 32)) * 2
    return (centres[rng.integers(0, 20, 2000)] + rng.standard_normal((2000, 32))).astype(np.float32)


def make(factory, metric, xb):
    index = FactoryIndex.create(xb.shape[1], metric, {"factory": factory})
    index.train(xb)
    index.reserve(len(xb))
    for start in range(0, len(xb), 600):
        index.add(xb[start : start + 600])
    return index


@pytest.mark.parametrize("metric", [Metric.COSINE, Metric.L2])
@pytest.mark.parametrize("factory", USABLE)
def test_a_string_makes_an_index_that_keeps_the_contract(factory, metric, spread, tmp_path):
    xb = l2_normalize(spread) if metric is Metric.COSINE else spread
    xq = xb[:30]
    index = make(factory, metric, xb)
    efforts = index.efforts(10) or [{}]
    scores, rows = index.search(xq, 10, efforts[-1])
    assert scores.dtype == np.float32 and rows.dtype == np.int64 and rows.min() >= 0
    assert recall_of(rows, xq, xb, metric) >= USABLE[factory]
    assert recall_of(index.search(xq, 10, efforts[0])[1], xq, xb, metric) <= recall_of(rows, xq, xb, metric) + 0.02

    for n_allowed in (3, 40, 900):
        allowed = np.zeros(len(xb), bool)
        allowed[np.random.default_rng(n_allowed).choice(len(xb), n_allowed, replace=False)] = True
        _, rows = index.search(xq, min(n_allowed, 10), efforts[0], allowed)
        assert rows.min() >= 0 and allowed[rows].all(), "each query gets all k, and only what is allowed"
        assert all(len(set(answers)) == len(answers) for answers in rows.tolist())

    _, rows = index.search(xq[:2], len(xb), efforts[0])
    assert all(sorted(answers) == list(range(len(xb))) for answers in rows.tolist())

    index.save(tmp_path / "x.faiss")
    loaded = FactoryIndex.load(tmp_path / "x.faiss", metric)
    for ours, theirs in zip(index.search(xq, 5, efforts[0]), loaded.search(xq, 5, efforts[0]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert loaded.efforts(10) == index.efforts(10) and loaded.bytes_per_vector == index.bytes_per_vector


@pytest.mark.parametrize("factory", ["IVF16,Flat", "IVF16,PQ32x4fs,RFlat", "HNSW32", "PQ16x4fs,RFlat"])
def test_what_is_allowed_far_away_is_found(factory, spread):
    xb = np.concatenate([spread, spread[:300] * 0.01 + 50]).astype(np.float32)
    index = make(factory, Metric.L2, xb)
    allowed = np.arange(len(xb)) >= len(spread)
    _, rows = index.search(xb[:20], 10, index.efforts(10)[-1], allowed)
    assert recall_of(rows, xb[:20], xb, Metric.L2, allowed) >= 0.95


@pytest.mark.parametrize(
    ("factory", "metric", "reason"),
    [
        ("nonsense", Metric.L2, "could not parse index string nonsense"),
        ("IVF16,Foo", Metric.L2, "could not parse code description Foo in IVF16,Foo"),
        ("PQ7", Metric.L2, "dimensions"),
        ("IDMap,Flat", Metric.COSINE, "leave IDMap out"),
        ("IDMap2,HNSW32", Metric.COSINE, "leave IDMap2 out"),
        ("NSG32", Metric.COSINE, "takes all its rows at once"),
        ("LSH", Metric.L2, "Hamming"),
        ("LSH", Metric.IP, "compares by l2 only"),
        ("HNSW16_PQ16", Metric.COSINE, "compares by l2 only"),
        ("IMI2x4,PQ16", Metric.COSINE, "compares by l2 only"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line_with_examples(factory, metric, reason):
    with pytest.raises(UsageError) as caught:
        FactoryIndex.create(32, metric, {"factory": factory})
    message = str(caught.value)
    assert reason in message and factory in message and "\n" not in message
    assert "IVF1024,PQ32x4fs,RFlat" in message and "HNSW32" in message and ".cpp" not in message


def test_too_few_rows_to_train_on_are_told(spread):
    index = FactoryIndex.create(32, Metric.L2, {"factory": "IVF4096,Flat"})
    assert index.training_rows == 39 * 4096
    with pytest.raises(UsageError, match=r"cannot be trained on 2000 vectors: .*4096"):
        index.train(spread)


def test_effort_goes_by_the_type_of_what_is_inside_and_never_changes_the_index(spread):
    wanted = {
        "Flat": set(),
        "HNSW32": {"ef_search"},
        "IVF16,SQ8": {"nprobe"},
        "PCA16,IVF16,PQ8x4fs,RFlat": {"nprobe", "k_factor"},
        "PCA16,HNSW16,RFlat": {"ef_search", "k_factor"},
    }
    for factory, names in wanted.items():
        index = make(factory, Metric.L2, spread)
        assert {name for effort in index.efforts(10) for name in effort} == names
    lists = make("IVF16,Flat", Metric.L2, spread)
    before = faiss.serialize_index(lists._faiss).tobytes()
    narrow = lists.search(spread[:50], 10, {"nprobe": 1})[1]
    wide = lists.search(spread[:50], 10, {"nprobe": 16})[1]
    assert not np.array_equal(narrow, wide)
    assert faiss.serialize_index(lists._faiss).tobytes() == before


def test_the_memory_that_is_planned_is_the_memory_that_is_taken(spread):
    for factory in ("SQ8", "HNSW32", "IVF16,PQ8x4fs", "IVF16,PQ8x4fs,RFlat"):
        index = make(factory, Metric.L2, spread)
        planned = FactoryIndex.planned_bytes(2000, 32, {"factory": factory})
        assert planned == pytest.approx(2000 * index.bytes_per_vector, rel=0.1)
        written = faiss.serialize_index(index._faiss).nbytes
        assert planned == pytest.approx(written, rel=0.25)
