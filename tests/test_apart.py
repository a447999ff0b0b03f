"""Vectors of very different lengths, and questions for what lies elsewhere: ask with a cat for dogs."""

import numpy as np
import oracle
import pytest

import embedsearch as es

N, N_QUERIES = 6000, 300
METRICS = ("cosine", "l2", "ip")


@pytest.fixture(scope="module")
def animals():
    """Two kinds far apart, in 32 dimensions; lengths spread as those of word vectors are, or more. x, kind, queries,
    their kinds."""
    rng = np.random.default_rng(11)
    n = N + N_QUERIES
    kind = rng.integers(0, 2, n)
    centres = 3 * rng.normal(size=(2, 12))
    x = (centres[kind] + rng.normal(size=(n, 12))) @ rng.normal(size=(12, 32)) + 0.05 * rng.normal(size=(n, 32))
    x = (x * np.exp(0.4 * rng.normal(size=(n, 1)))).astype(np.float32)
    return x[:N], kind[:N], x[N:], kind[N:]


@pytest.fixture(scope="module", params=METRICS)
def metric(request):
    return request.param


@pytest.fixture(scope="module", params=["graph", "ivf", "hnsw", "HNSW16,SQ8,RFlat", "IVF64,SQ8,RFlat"])
def index(request, metric, animals, tmp_path_factory):
    x, kind, _, _ = animals
    table = {"kind": kind, "length": np.linalg.norm(x, axis=1)}
    out = tmp_path_factory.mktemp("animals") / "x"
    return es.build(x, out, metadata=table, index=request.param, metric=metric, recall=0.95)


def found(index, xq, k=10, **asked):
    ids, _ = index.search_vectors(xq, k=k, **asked)
    assert all(name is not None for row in ids for name in row)
    return ids.astype(np.int64)


def test_without_a_filter_the_promise_is_kept(index, metric, animals):
    x, _, xq, _ = animals
    assert oracle.recall_of(found(index, xq), xq, x, metric) >= 0.94


@pytest.mark.parametrize("asked_for", [0, 1])
def test_one_kind_asked_with_the_other(index, metric, animals, asked_for):
    x, kind, xq, kinds = animals
    xq = xq[kinds != asked_for]
    rows = found(index, xq, where=f"kind = {asked_for}")
    assert (kind[rows] == asked_for).all()
    assert oracle.recall_of(rows, xq, x, metric, kind == asked_for) >= 0.93


@pytest.mark.parametrize("part", ["short", "long"])
def test_short_and_long_ones(index, metric, animals, part):
    x, _, xq, _ = animals
    lengths = np.linalg.norm(x, axis=1)
    limit = float(np.quantile(lengths, 0.25 if part == "short" else 0.75))
    allowed = lengths < limit if part == "short" else lengths > limit
    rows = found(index, xq, where=f"length {'<' if part == 'short' else '>'} {limit!r}")
    assert allowed[rows].all()
    assert oracle.recall_of(rows, xq, x, metric, allowed) >= 0.93


def test_a_hundred_answers_are_found_as_well_as_ten(index, metric, animals):
    x, _, xq, _ = animals
    wide = index.info()["index"]["tuned"]["wide"]
    share = oracle.recall_of(found(index, xq, k=100), xq, x, metric)
    assert share >= 0.94 and abs(share - wide["recall"]) < 0.03


@pytest.mark.parametrize("family", ["graph", "hnsw"])
def test_the_longest_rows_are_found_however_they_came_into_the_graph(family, tmp_path):
    """Of inner products with lengths like these, a few rows are the answers to nearly all queries, and some of them are
    among those that were held out."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(5000, 4)) @ rng.normal(size=(4, 48)) + 3 * rng.normal(size=48)
    x = (x * np.exp(0.8 * rng.normal(size=(5000, 1)))).astype(np.float32)
    index = es.build(x[:4700], tmp_path / "x", metric="ip", index=family, recall=0.95)
    assert oracle.recall_of(found(index, x[4700:]), x[4700:], x[:4700], "ip") >= 0.94
