"""The contract of every registered index family, against brute force."""

import threading

import numpy as np
import oracle
import pytest

from embedsearch.errors import DamagedIndexError
from embedsearch.index import IndexRequest, choose_index
from embedsearch.registry import INDEXES
from embedsearch.types import Metric
from embedsearch.vectors import l2_normalize

METRICS = list(Metric)
FAMILIES = list(INDEXES)


def make(family, metric, xb):
    choice = choose_index(IndexRequest(asked_as(family)), *xb.shape)
    index = INDEXES.get(family).create(xb.shape[1], metric, choice.build)
    index.train(xb)
    for start in range(0, len(xb), 100):
        index.add(xb[start : start + 100])
    index.complete(lambda n: None)
    index.admit(lambda n: None)
    return index, choice


def asked_as(family):
    return "IVF4,Flat" if family == "factory" else family


def prepared(metric, x):
    return l2_normalize(x) if metric is Metric.COSINE else x


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("family", FAMILIES)
def test_answers_agree_with_brute_force(family, metric, clusters):
    xb, xq = prepared(metric, clusters), prepared(metric, clusters[:40] + 0.01)
    index, choice = make(family, metric, xb)
    assert len(index) == 600 and index.dim == 24 and index.metric is metric
    scores, rows = index.search(xq, 10, choice.search)
    assert scores.dtype == np.float32 and rows.dtype == np.int64
    if index.exact:
        oracle.assert_is_best(rows, scores, xq, xb, metric, 10)
    else:
        truth = oracle.scores_of(xq, xb, metric)
        np.testing.assert_allclose(np.take_along_axis(truth, rows, axis=1), scores, rtol=1e-3, atol=1e-3)
        best = np.argsort(truth if metric is Metric.L2 else -truth, axis=1)[:, :10]
        found = np.mean([len(set(r) & set(b)) / 10 for r, b in zip(rows, best, strict=True)])
        # a graph walked by inner product is no metric space, so it may miss a little
        assert found >= (0.9 if metric is Metric.IP else 0.99)


@pytest.mark.parametrize("offset", [0, 30, 1000])
@pytest.mark.parametrize("metric", METRICS)
def test_exact_search_is_exact_in_large_batches_and_far_from_the_origin(metric, offset, rng):
    """FAISS multiplies matrices for batches of 20 and more, which cancels where vectors are long and near."""
    xb = prepared(metric, (rng.normal(size=(2000, 48)) + offset).astype(np.float32))
    index, choice = make("flat", metric, xb)
    scores, rows = index.search(xb[:1000], 10, choice.search)
    if metric is Metric.L2:
        assert (rows[:, 0] == np.arange(1000)).all() and scores[:, 0].max() < 1e-3
        truth = oracle.scores_of(xb[:1000], xb, metric)
        np.testing.assert_allclose(
            np.take_along_axis(truth, rows, axis=1), np.sort(truth, axis=1)[:, :10], rtol=1e-4, atol=1e-3
        )
    else:
        oracle.assert_is_best(rows, scores, xb[:1000], xb, metric, 10)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_allowed_is_found_wherever_it_lies(family, rng):
    """The allowed rows lie in a far cluster, off every walk."""
    near, far = rng.normal(size=(3000, 8)), rng.normal(size=(700, 8)) * 0.1 + 40
    xb = np.concatenate([near, far]).astype(np.float32)
    index, choice = make(family, Metric.L2, xb)
    allowed = np.arange(3700) >= 3000
    scores, rows = index.search(xb[:50], 10, choice.search, allowed)
    assert (rows >= 3000).all() and np.isfinite(scores).all()


@pytest.mark.parametrize("n_allowed", [1, 3, 30, 59, 300, 599])
@pytest.mark.parametrize("family", FAMILIES)
def test_only_allowed_rows_answer(family, n_allowed, clusters, rng):
    xb = l2_normalize(clusters)
    index, choice = make(family, Metric.COSINE, xb)
    allowed = np.zeros(600, bool)
    allowed[rng.choice(600, n_allowed, replace=False)] = True
    k = min(5, n_allowed)
    scores, rows = index.search(xb[:20], k, choice.search, allowed)
    oracle.assert_is_best(rows, scores, xb[:20], xb, "cosine", k, allowed, tolerance=1e-5 if index.exact else 2e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_and_loaded_it_answers_the_same(family, clusters, tmp_path):
    index, choice = make(family, Metric.L2, clusters)
    index.save(tmp_path / "x.faiss")
    loaded = INDEXES.get(family).load(tmp_path / "x.faiss", Metric.L2)
    for ours, theirs in zip(
        index.search(clusters[:9], 4, choice.search), loaded.search(clusters[:9], 4, choice.search), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(DamagedIndexError, match="cosine"):
        INDEXES.get(family).load(tmp_path / "x.faiss", Metric.COSINE)
    (tmp_path / "x.faiss").write_bytes(b"nonsense")
    with pytest.raises(DamagedIndexError):
        INDEXES.get(family).load(tmp_path / "x.faiss", Metric.L2)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_rows_can_be_asked_for(family, clusters):
    xb = clusters[:50]
    index, choice = make(family, Metric.L2, xb)
    _, rows = index.search(xb[:3], 50, choice.search)
    assert all(sorted(answers) == list(range(50)) for answers in rows.tolist())


@pytest.mark.parametrize("family", FAMILIES)
def test_many_threads_search_one_index(family, clusters):
    index, choice = make(family, Metric.L2, clusters)
    expected = index.search(clusters[:30], 5, {**choice.search, "ef_search": 128})[1]
    wrong = []

    def ask(width):
        for _ in range(20):
            rows = index.search(clusters[:30], 5, {**choice.search, "ef_search": width})[1]
            if width == 128 and not np.array_equal(rows, expected):
                wrong.append(width)

    threads = [threading.Thread(target=ask, args=(width,)) for width in (5, 128, 16, 128)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("family", [name for name in FAMILIES if INDEXES.get(name).holds_out])
def test_what_is_held_out_answers_only_once_it_is_admitted(family, clusters, rng):
    xb = l2_normalize(clusters)
    held = rng.choice(600, 100, replace=False)
    index = INDEXES.get(family).create(24, Metric.COSINE, choose_index(IndexRequest(family), 600, 24).build)
    index.train(np.delete(xb, held, axis=0))
    index.hold_out(held)
    for start in range(0, 600, 130):
        index.add(xb[start : start + 130])
    index.complete(lambda n: None)
    params = {"ef_search": 200}
    _, rows = index.search_others(xb[held], held, 10, params)
    assert not np.isin(rows, held).any() and (rows >= 0).all()
    truth = oracle.scores_of(xb[held], xb, "cosine")
    truth[:, held] = -np.inf
    best = np.argsort(-truth, axis=1)[:, :10]
    assert np.mean([len(set(r) & set(b)) / 10 for r, b in zip(rows, best, strict=True)]) > 0.98
    index.admit(lambda n: None)
    _, rows = index.search(xb[held], 1, params)
    assert (rows[:, 0] == held).mean() > 0.98
    assert len(index) == 600
