"""The innermost compiled loops of the graph, each beside numpy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from embedsearch.compiled import matrix_ops
from embedsearch.index.graph import vector_ops
from embedsearch.index.graph.codes import LANES


@njit
def _l2(a, i, b, j, width):
    return vector_ops.l2_bytes(a, i, b, j, width)


@njit
def _dot(values, place, weights, offset):
    return vector_ops.dot(values, place, weights, offset)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(0, 40), st.integers(0, 40), st.integers(0, 2**31))
def test_the_distance_of_bytes_is_numpys(n_lanes, i, j, seed):
    width = n_lanes * LANES
    a, b = np.random.default_rng(seed).integers(0, 256, (2, width + 64), dtype=np.uint8)
    expected = ((a[i : i + width].astype(np.int64) - b[j : j + width]) ** 2).sum()
    assert _l2(a, i, b, j, width) == expected


def test_the_largest_distance_does_not_overflow():
    a, b = np.zeros(1024, np.uint8), np.full(1024, 255, np.uint8)
    assert _l2(a, 0, b, 0, 1024) == 1024 * 255**2


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16])
@pytest.mark.parametrize("n", [1, 7, 16, 33, 384])
def test_products_with_small_integers_are_numpys(dtype, n, rng):
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max + 1, 500).astype(dtype)
    weights = rng.normal(size=n).astype(np.float32)
    expected = ((values[9 : 9 + n].astype(np.float64) - 3) * weights).sum()
    np.testing.assert_allclose(_dot(values, 9, weights, np.float32(3)), expected, rtol=1e-4, atol=1e-3 * info.max)


@njit
def _product(weights, rows, sums):
    matrix_ops.product(weights, rows, sums)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 11), st.integers(1, 50), st.integers(1, 4), st.integers(0, 20), st.integers(0, 2**31))
def test_the_product_of_matrices_is_numpys(n, d, n_lanes, spare, seed):
    """With fewer and more rows than a tile has, and rows of weights that go on beyond what is multiplied."""
    rng = np.random.default_rng(seed)
    weights, rows = rng.normal(size=(n, d + spare)), rng.normal(size=(d, n_lanes * LANES))
    weights, rows = weights.astype(np.float32), rows.astype(np.float32)
    sums = np.full((n + 2, n_lanes * LANES), 7, np.float32)
    _product(weights, rows, sums[1:-1])
    np.testing.assert_allclose(sums[1:-1], weights[:, :d].astype(np.float64) @ rows, rtol=1e-4, atol=1e-4)
    assert (sums[[0, -1]] == 7).all()
