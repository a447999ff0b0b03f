import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from embedsearch.evaluate import mean_with_interval, ndcg_at_k, recall_at_k, recall_with_ties


def test_recall_counts_shared_rows_and_not_places():
    truth = np.array([[1, 2], [3, 4]])
    assert recall_at_k(np.array([[2, 1], [3, 9]]), truth) == 0.75
    assert recall_at_k(np.array([[-1, -1], [-1, 3]]), truth) == 0.25
    with pytest.raises(ValueError, match="found is"):
        recall_at_k(truth[:1], truth)


def test_recall_with_ties_lets_equal_scores_stand_for_one_another():
    truth, scores = np.array([[4, 5, 6, 7], [4, 5, 6, 7]]), np.array([[3, 2, 1, 0.5], [3, 3, 3, 3]], np.float32)
    np.testing.assert_allclose(recall_with_ties(truth[:, :3], truth, scores, True), [1, 1])
    found = np.array([[4, 6, 7], [7, 5, -1]])
    np.testing.assert_allclose(recall_with_ties(found, truth, scores, True), [2 / 3, 2 / 3])
    np.testing.assert_allclose(recall_with_ties(found, truth, -scores, False), [2 / 3, 2 / 3])
    assert recall_with_ties(np.array([[8, 9]]), truth[:1], scores[:1], True) == [0]
    with pytest.raises(ValueError, match="truth is"):
        recall_with_ties(truth, truth[:, :3], scores[:, :3], True)


def test_rows_that_tie_beyond_the_best_that_were_kept_are_told_by_their_scores():
    truth, scores = np.array([[4, 5, 6], [4, 5, 6]]), np.array([[3, 3, 3], [3, 3, 1]], np.float32)
    of_row = np.array([9, 9, 9, 9, 3, 3, 3, 3, 2, 3], np.float32)
    asked = []

    def score_of(queries, rows):
        asked.append((queries.tolist(), rows.tolist()))
        return of_row[rows]

    found = np.array([[9, 8], [9, 4]])
    np.testing.assert_allclose(recall_with_ties(found, truth, scores, True, score_of), [0.5, 0.5])
    assert asked == [([0, 0], [9, 8])]  # the second query's ties end within what was kept


def test_the_interval_is_that_of_the_normal_approximation():
    values = np.array([0.5, 1.0, 1.0, 0.9])
    mean, low, high = mean_with_interval(values)
    half = 1.96 * np.std([*values, 0], ddof=1) / 2  # with one more that found nothing
    assert (mean, low, high) == pytest.approx((0.85, 0.85 - half, 1.0))
    assert np.isnan(mean_with_interval(np.empty(0))).all()


@pytest.mark.parametrize(("n", "least"), [(1, 0.0), (3, 0.4), (1000, 0.99)])
def test_few_values_that_are_all_one_prove_little(n, least):
    mean, low, high = mean_with_interval(np.ones(n))
    assert mean == high == 1.0 and least <= low < (1 if n > 100 else 0.6)


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e8])
def test_what_ties_does_not_depend_on_how_large_the_scores_are(size):
    scores = (np.linspace(0.001, 0.04, 40)[None] * size).astype(np.float32)
    truth = np.arange(40)[None]
    assert recall_with_ties(truth[:, 10:20], truth, scores, False) == [0]
    assert recall_with_ties(truth[:, :10], truth, scores, False) == [1]


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12), st.integers(1, 12), st.randoms())
def test_ndcg_is_scikit_learns(grades, k, random):
    names = [str(i) for i in range(len(grades))]
    ranked = names[:]
    random.shuffle(ranked)
    ours = ndcg_at_k(ranked, dict(zip(names, map(float, grades), strict=True)), k)
    if not any(grades):
        assert np.isnan(ours)
        return
    scores = [-ranked.index(name) for name in names]
    assert ours == pytest.approx(ndcg_score([grades], [scores], k=k))
