"""Measures of rankings, against scikit-learn on the same rankings and against what a person computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score, top_k_accuracy_score

from embedsearch.evaluate import ranking


def drawn(seed: int, graded: bool = False) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 8), rng.integers(2, 40)
    grades = rng.integers(0, 4 if graded else 2, (n, m)) * (rng.random((n, m)) < 0.4)
    return rng.standard_normal((n, m)), grades.astype(float)


def test_measures_of_a_ranking_that_a_person_can_follow() -> None:
    found = ranking.measures([[0, 1, 0, 1, 0]], 2)
    assert found.precision_at_1 == [0]
    assert found.recall_at_k == [0.5]
    assert found.average_precision == [(1 / 2 + 2 / 4) / 2]
    assert found.reciprocal_rank == [0.5]
    assert found.ndcg_at_k == pytest.approx([(1 / np.log2(3)) / (1 + 1 / np.log2(3))])


@given(st.integers(0, 10_000))
def test_average_precision_is_that_of_scikit_learn(seed: int) -> None:
    scores, grades = drawn(seed)
    found = ranking.average_precision(ranking.ranked_gains(scores, grades))
    for value, row, s in zip(found, grades, scores, strict=True):
        if row.any():
            assert value == pytest.approx(average_precision_score(row, s), abs=1e-12)
        else:
            assert np.isnan(value)


@given(st.integers(0, 10_000), st.integers(1, 50))
def test_ndcg_is_that_of_scikit_learn(seed: int, k: int) -> None:
    scores, grades = drawn(seed, graded=True)
    found = ranking.ndcg_at(ranking.ranked_gains(scores, grades), k)
    for value, row, s in zip(found, grades, scores, strict=True):
        if row.any():
            assert value == pytest.approx(ndcg_score([row], [s], k=k), abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_precision_and_recall_of_single_answers_are_top_k_accuracy(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((20, 7))
    right = rng.integers(0, 7, 20)
    gains = ranking.ranked_gains(scores, np.eye(7)[right])
    assert ranking.recall_at(gains, k).mean() == pytest.approx(
        top_k_accuracy_score(right, scores, k=k, labels=range(7))
    )
    assert ranking.precision_at(gains, 1).mean() == pytest.approx(
        top_k_accuracy_score(right, scores, k=1, labels=range(7))
    )


@given(st.integers(0, 10_000))
def test_ties_never_flatter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 3, (4, 12)).astype(float)
    grades = rng.integers(0, 3, (4, 12)).astype(float)
    worst = ranking.measures(ranking.ranked_gains(scores, grades), 5)
    # any other order of what is equal
    broken = ranking.measures(ranking.ranked_gains(scores + rng.random((4, 12)) * 1e-3, grades), 5)
    for name in ranking.Measures.__slots__:
        assert np.all(np.nan_to_num(getattr(worst, name)) <= np.nan_to_num(getattr(broken, name)) + 1e-12)


def test_one_vector_for_everything_gets_the_worst_figures() -> None:
    gains = ranking.ranked_gains(np.ones((1, 6)) + np.arange(6) * 1e-9, [[1, 1, 0, 0, 0, 0]])
    assert gains.tolist() == [[0, 0, 0, 0, 1, 1]]


@pytest.mark.parametrize("grades", [[[2, 1, 3]], [[0, 1, 3]]])
def test_what_is_left_out_goes_to_the_end_without_a_gain(grades: list[list[int]]) -> None:
    gains = ranking.ranked_gains([[9.0, 1.0, -9.0]], grades, left_out=np.array([[True, False, False]]))
    assert gains.tolist() == [[1, 3, 0]]


def test_what_a_short_ranking_lacks_counts() -> None:
    found = ranking.measures([[1, 0], [0, 0], [0, 0]], 10, n_relevant=[4, 1, 0])
    assert found.recall_at_k[:2].tolist() == [0.25, 0]
    assert found.average_precision[:2].tolist() == [0.25, 0]
    assert found.ndcg_at_k[0] == pytest.approx(1 / (1 / np.log2([2, 3, 4, 5])).sum())
    assert all(np.isnan(getattr(found, name)[2]) for name in ranking.Measures.__slots__)
    graded = ranking.ndcg_at([[2.0, 0]], 10, ideal=[[3, 2]])
    assert graded == pytest.approx([2 / (3 + 2 / np.log2(3))])


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"):
        ranking.ranked_gains([[np.nan]], [[1]])
    with pytest.raises(ValueError, match="n x m"):
        ranking.ranked_gains([[1.0]], [[1, 0]])
    with pytest.raises(ValueError, match="k is 0"):
        ranking.precision_at([[1]], 0)
    with pytest.raises(ValueError, match="give ideal"):
        ranking.ndcg_at([[2.0, 0]], 10, n_relevant=[2])
    with pytest.raises(ValueError, match="fewer than"):
        ranking.recall_at([[1, 1]], 1, n_relevant=[1])
