"""An index of vectors that tests change, and what it has to hold then."""

import numpy as np
import oracle
import pytest

import embedsearch as es


@pytest.fixture
def x(rng):
    """300 x 12 of low intrinsic dimension."""
    return (rng.normal(size=(300, 5)) @ rng.normal(size=(5, 12))).astype(np.float32)


@pytest.fixture
def index(x, tmp_path):
    return es.build(x[:200], tmp_path / "index", metadata={"n": list(range(200))})


def assert_holds(index, ids, xb, metric="cosine", k=7, exact=True):
    """The index holds these vectors under these ids, and answers as brute force does over them."""
    assert sorted(index.ids) == sorted(ids) and len(index) == len(ids)
    queries = xb[:: max(1, len(xb) // 15)] + 0.01
    found, scores = index.search_vectors(queries, k=k)
    places = {item_id: n for n, item_id in enumerate(ids)}
    rows = np.vectorize(places.get)(found)
    if exact:
        oracle.assert_is_best(rows, scores, queries, xb, metric, min(k, len(ids)))
    else:
        told = np.take_along_axis(oracle.scores_of(queries, xb, metric), rows, axis=1)
        np.testing.assert_allclose(scores, told, rtol=1e-3, atol=1e-3)
