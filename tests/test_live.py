"""An index whose rows changed since it was built, against brute force over the rows there are now."""

import numpy as np
import oracle
import pytest
from test_index import FAMILIES, METRICS, make, prepared

from embedsearch.errors import DamagedIndexError
from embedsearch.index import LiveIndex
from embedsearch.index.base import N_EXTRA
from embedsearch.index.flat import FlatIndex
from embedsearch.types import Metric

N = 400


def live(family, metric, x, dead=(), n_tail=0, seed=3):
    """An index over the first rows of x, of which `dead` are gone, with the last n_tail as its tail; current rows are
    shuffled. Gives it, its search parameters, and the vectors of the current rows."""
    n_main = len(x) - n_tail
    main, choice = make(family, metric, x[:n_main])
    ids = np.random.default_rng(seed).permutation(np.setdiff1d(np.arange(len(x)), dead)).astype(np.int64)
    current = x[ids] if len(ids) else np.empty((0, x.shape[1]), np.float32)
    index = LiveIndex.compose(main, np.arange(n_main, dtype=np.int64), ids, lambda rows: current[rows])
    return index, choice.search, current


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("n_dead", "n_tail"), [(0, 0), (0, 30), (20, 30), (50, 0), (50, 30), (390, 5), (399, 1), (360, 40)]
)
def test_answers_are_those_of_brute_force(family, metric, n_dead, n_tail, clusters):
    x = prepared(metric, clusters[:N])
    dead = np.random.default_rng(1).choice(N - n_tail, min(n_dead, N - n_tail), replace=False)
    index, params, current = live(family, metric, x, dead, n_tail)
    assert (len(index), index.n_tail, index.n_dead) == (len(current), n_tail, len(dead)) and index.dim == 24
    xq = prepared(metric, clusters[:30] + 0.01)
    for k in (1, 10, len(current)):
        scores, rows = index.search(xq, min(k, len(current)), params)
        assert rows.dtype == np.int64 and scores.dtype == np.float32
        if index.exact:
            oracle.assert_is_best(rows, scores, xq, current, metric, min(k, len(current)))
        else:
            truth = oracle.scores_of(xq, current, metric)
            here = rows >= 0
            told = np.take_along_axis(truth, np.maximum(rows, 0), axis=1)
            # some families rank by float16 at the end
            np.testing.assert_allclose(scores[here], told[here], atol=1e-3 * np.abs(truth).max())
            assert here.mean() > 0.95 and all(len(set(r[h])) == h.sum() for r, h in zip(rows, here, strict=True))


@pytest.mark.parametrize("metric", METRICS)
def test_a_condition_holds_for_both_parts(metric, clusters, rng):
    x = prepared(metric, clusters[:N])
    index, params, current = live("flat", metric, x, dead=range(40), n_tail=50)
    for share in (0.0, 0.02, 0.5, 1.0):
        allowed = rng.random(len(current)) < share
        k = min(10, int(allowed.sum()))
        scores, rows = index.search(x[:20], max(k, 1), params, allowed)
        if k:
            oracle.assert_is_best(rows, scores, x[:20], current, metric, k, allowed)
        else:
            assert rows.shape == (20, 0)


def test_nothing_left(clusters):
    x = prepared(METRICS[0], clusters[:40])
    index, params, current = live("flat", METRICS[0], x, dead=range(40))
    assert len(index) == len(current) == 0 and index.n_dead == 40 and index.exact
    assert index.search(x[:3], 1, params)[1].shape == (3, 0)


def test_nothing_at_first(clusters):
    x = prepared(METRICS[0], clusters[:40])
    for family in ("flat", "hnsw"):  # an index of nothing is always a flat one
        index, params, current = live(family, METRICS[0], x, n_tail=40)
        scores, rows = index.search(x, 3, params)
        oracle.assert_is_best(rows, scores, x, current, METRICS[0], 3)
        assert index.exact


def test_rows_of_another_index_are_refused(clusters):
    main, _ = make("flat", METRICS[0], prepared(METRICS[0], clusters[:40]))
    with pytest.raises(DamagedIndexError, match="40 positions, and rows for 39"):
        LiveIndex.compose(main, np.arange(39, dtype=np.int64), np.arange(40, dtype=np.int64), lambda rows: clusters)


def test_dead_rows_are_asked_for_beside_the_others_and_make_no_effort(rng):
    """A beam that grows with k grows with what is wanted."""
    x = rng.normal(size=(200, 8)).astype(np.float32)
    main, asked = FlatIndex.create(8, Metric.IP, {}), []
    main.add(x)
    search = main.search
    main.search = lambda xq, k, params, allowed=None: asked.append((k, dict(params))) or search(xq, k, params, allowed)
    row_at = np.arange(200)
    row_at[:5] = -1
    live = LiveIndex(main, row_at, np.empty(0, np.int64), np.empty((0, 8), np.float32))
    live.search(x[:3], 10, {"ef_search": 17})
    assert asked == [(15, {"ef_search": 17, N_EXTRA: 5})]
