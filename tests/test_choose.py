"""Which index is chosen: a pure function of size, memory and promise."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import embedsearch as es
from embedsearch.config import parse_bytes
from embedsearch.errors import PromiseError, UnknownNameError, UsageError
from embedsearch.index import IndexRequest, choose_index
from embedsearch.index.choose import FLAT_MAX_VALUES, FLAT_VALUES_PER_MS, changed_request, in_mib


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


def test_the_reason_names_what_decided():
    assert "at most 50,000,000" in chosen(1000, 100).reason
    assert "more than 50,000,000" in chosen(10**6, 384).reason
    small = chosen(100_000, 384, memory_bytes=100 * 2**20)
    assert small.family == "graph" and "exact search takes more memory than there may be" in small.reason
    assert "000,000" not in small.reason.partition("values")[2]
    slow = chosen(10_000, 128, latency_ms=0.2)
    assert "more than the 1,000,000 that exact search compares in 0.2 ms" in slow.reason


@given(st.integers(1, 2**40), st.integers(1, 2**40))
def test_a_limit_and_what_is_larger_never_look_the_same(limit, more):
    taken = limit + more
    assert parse_bytes(in_mib(limit, as_limit=True)) <= limit < taken <= parse_bytes(in_mib(taken))
    assert in_mib(limit, as_limit=True) != in_mib(taken)


def test_sizes_are_told_as_they_are_given():
    assert [in_mib(n * 2**20, as_limit=True) for n in (1, 1.5, 64, 2048)] == ["1MiB", "1.5MiB", "64MiB", "2048MiB"]
    with pytest.raises(PromiseError, match=r"do not fit in 2MiB: flat takes about 2.01MiB; allow --memory 2.01MiB"):
        chosen(2**15 + 1, 16, "flat", memory_bytes=2**21)


def test_numbers_of_numpy_are_numbers():
    asked = changed_request("flat", np.float32(0.5), np.int64(2**20), np.int32(7))
    assert asked["memory_bytes"] == 2**20 and type(asked["memory_bytes"]) is int
    assert json.loads(json.dumps(IndexRequest(**asked).to_dict())) == {**asked, "recall": 0.5}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"memory": True}, "True is no size"),
        ({"memory": float("nan")}, "nan is no size"),
        ({"memory": [1]}, r"\[1\] is no size"),
        ({"memory": "2 spoons"}, "'2 spoons' is no size"),
        ({"latency_ms": "5"}, "latency is '5' ms"),
        ({"latency_ms": float("inf")}, "latency is inf ms"),
        ({"recall": "0.9"}, "recall is '0.9'"),
        ({"index": 3}, "index is 3"),
        ({"recal": 0.9}, "option of a build 'recal' is not known; did you mean 'recall'"),
        ({"pool": "max"}, "did you mean 'pooling'"),
    ],
)
def test_options_that_cannot_be_meant_name_the_value_and_the_fix(wrong, told, tmp_path):
    with pytest.raises(UsageError, match=told):
        es.build(np.eye(3), tmp_path / "index", **wrong)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize(
    "wrong", [{"recall": 0}, {"recall": 1.1}, {"recall": float("nan")}, {"memory_bytes": 0}, {"latency_ms": -1}]
)
def test_promises_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong)).partition("_")[0]):
        IndexRequest(**wrong)
