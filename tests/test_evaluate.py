import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from embedsearch.evaluate import ndcg_at_k, recall_at_k, recall_with_ties


def test_recall_counts_shared_rows_and_not_places():
    truth = np.array([[1, 2], [3, 4]])
    assert recall_at_k(np.array([[2, 1], [3, 9]]), truth) == 0.75
    assert recall_at_k(np.array([[-1, -1], [-1, 3]]), truth) == 0.25
    with pytest.raises(ValueError, match="found is"):
        recall_at_k(truth[:1], truth)


def test_recall_with_ties_lets_equal_scores_stand_for_one_another():
    truth = np.array([[3, 2, 1], [3, 3, 3]], np.float32)
    assert recall_with_ties(truth, truth, True) == 1
    found = np.array([[3, 1, 0.5], [3, 3, np.nan]], np.float32)
    assert recall_with_ties(found, truth, True) == pytest.approx((2 + 2) / 6)
    assert recall_with_ties(-found, -truth, False) == pytest.approx((2 + 2) / 6)


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
