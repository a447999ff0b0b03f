import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from embedsearch.errors import UsageError
from embedsearch.types import Metric
from embedsearch.vectors import as_matrix, faiss_metric, finite_rows, l2_normalize, require_finite

floats = st.floats(-1e4, 1e4, width=32)
matrices = arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 7)), elements=floats)


@given(matrices)
def test_rows_have_unit_length_or_stay_zero_and_the_argument_is_kept(x):
    before = x.copy()
    y = l2_normalize(x)
    assert y.dtype == np.float32 and y is not x
    np.testing.assert_array_equal(x, before)
    norms = np.linalg.norm(y.astype(np.float64), axis=1)
    zero = np.linalg.norm(x.astype(np.float64), axis=1) == 0
    np.testing.assert_allclose(norms[~zero], 1, atol=1e-5)
    assert (y[zero] == 0).all()


@given(matrices)
def test_a_row_is_normalised_the_same_alone_and_among_others(x):
    together = l2_normalize(x)
    for row in range(len(x)):
        np.testing.assert_array_equal(l2_normalize(x[row : row + 1])[0], together[row])


def test_as_matrix_takes_lists_vectors_and_other_dtypes():
    assert as_matrix([1, 2, 3]).shape == (1, 3)
    assert as_matrix(np.ones((2, 3), order="F", dtype=np.float64)).flags["C_CONTIGUOUS"]
    x = np.ones((2, 3), np.float32)
    assert as_matrix(x) is x


@pytest.mark.parametrize("bad", [np.ones((2, 2, 2)), "words", [[1, 2], [3]], np.ones((2, 2), complex), [object()]])
def test_as_matrix_refuses_what_is_no_matrix(bad):
    with pytest.raises(UsageError):
        as_matrix(bad)


def test_as_matrix_names_both_widths():
    with pytest.raises(UsageError, match="3 dimensions, the index has 4"):
        as_matrix(np.ones((1, 3)), 4)


def test_require_finite_names_the_first_bad_row():
    x = np.ones((4, 2), np.float32)
    require_finite(x)
    require_finite(np.full((2, 2), np.finfo(np.float32).max))
    x[2, 1] = np.nan
    with pytest.raises(UsageError, match="row 2"):
        require_finite(x)
    x[2, 1], x[1, 0], x[3, 0] = 0, np.inf, -np.inf
    with pytest.raises(UsageError, match="row 1"):
        require_finite(x)
    np.testing.assert_array_equal(finite_rows(x), [True, False, True, False])


def test_every_metric_has_a_faiss_constant():
    import faiss

    assert [faiss_metric(metric) for metric in (Metric.COSINE, Metric.IP, Metric.L2)] == [
        faiss.METRIC_INNER_PRODUCT,
        faiss.METRIC_INNER_PRODUCT,
        faiss.METRIC_L2,
    ]
