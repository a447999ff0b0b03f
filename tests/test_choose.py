"""Which index is chosen: a pure function of size, memory and promise."""

import pytest

from embedsearch.errors import PromiseError, UnknownNameError, UsageError
from embedsearch.index import IndexRequest, choose_index
from embedsearch.index.choose import FLAT_MAX_VALUES, FLAT_VALUES_PER_MS


def chosen(n, dim, family="auto", **promise):
    return choose_index(IndexRequest(family, **promise), n, dim)


def test_small_is_exact_and_large_is_a_graph():
    assert chosen(1000, 512).family == "flat"
    assert chosen(FLAT_MAX_VALUES // 100, 100).family == "flat"
    large = chosen(FLAT_MAX_VALUES // 100 + 1, 100)
    assert large.family == "graph" and "50,000,100 values" in large.reason and large.search["ef_search"] > 10


def test_what_is_asked_for_is_taken():
    choice = chosen(3, 4, "hnsw")
    assert choice.family == "hnsw" and choice.reason == "asked for"
    choice = chosen(3, 4, "IVF16,SQ8")
    assert choice.family == "factory" and choice.build == {"factory": "IVF16,SQ8"}
    with pytest.raises(UnknownNameError, match="auto, flat, graph, hnsw, ivf .*IVF1024"):
        IndexRequest("tree")
    with pytest.raises(UnknownNameError, match="IVF1024"):
        IndexRequest("factory")


def test_a_promise_above_what_codes_can_keep_is_exact_search():
    assert chosen(10**7, 128, recall=0.9995).family == "flat"
    assert chosen(10**6, 128, recall=0.995).build["residual_bytes"] == 2
    assert chosen(10**6, 128, recall=0.95).build["residual_bytes"] == 1


def test_little_time_for_a_query_makes_even_a_small_index_a_graph():
    values = 10_000 * 128
    assert chosen(10_000, 128, latency_ms=values / FLAT_VALUES_PER_MS * 1.01).family == "flat"
    assert chosen(10_000, 128, latency_ms=values / FLAT_VALUES_PER_MS * 0.99).family == "graph"


def test_memory_decides_between_graph_and_ivf_and_says_what_would_do():
    graph = chosen(10**6, 384)
    assert graph.memory_bytes < 4 * 384 * 10**6
    assert chosen(10**6, 384, memory_bytes=graph.memory_bytes).family == "graph"
    small = chosen(10**6, 384, memory_bytes=graph.memory_bytes - 1)
    assert small.family == "ivf" and small.memory_bytes < graph.memory_bytes / 2
    with pytest.raises(PromiseError, match=r"do not fit in 1MiB.*graph takes about .*ivf takes about .*allow --memory"):
        chosen(10**6, 384, memory_bytes=2**20)
    with pytest.raises(PromiseError, match="flat takes about 1465MiB"):
        chosen(10**6, 384, "flat", memory_bytes=2**30)


@pytest.mark.parametrize(
    "wrong", [{"recall": 0}, {"recall": 1.1}, {"recall": float("nan")}, {"memory_bytes": 0}, {"latency_ms": -1}]
)
def test_promises_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong)).partition("_")[0]):
        IndexRequest(**wrong)
