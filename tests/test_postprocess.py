import numpy as np
import pytest
from sklearn.decomposition import PCA

from embedsearch.errors import DamagedIndexError, UsageError
from embedsearch.postprocess import Postprocess, Projection, fit_projection
from embedsearch.vectors import l2_normalize


@pytest.fixture
def sample(rng):
    scales = np.linspace(3, 0.2, 12)
    return (rng.normal(size=(400, 12)) * scales @ rng.normal(size=(12, 12)) + 5).astype(np.float32)


@pytest.mark.parametrize("whiten", [False, True])
def test_projection_is_scikit_learns(sample, whiten):
    ours = fit_projection(sample, 7, whiten=whiten)(sample)
    theirs = PCA(7, whiten=whiten, svd_solver="full").fit_transform(sample.astype(np.float64))
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs * signs, atol=1e-3 * np.abs(theirs).max())


def test_whitened_dimensions_are_uncorrelated_with_unit_variance(sample):
    y = fit_projection(sample, 8, whiten=True)(sample)
    np.testing.assert_allclose(np.cov(y.T), np.eye(8), atol=1e-3)


def test_the_same_sample_gives_the_same_projection_and_it_survives_the_disk(sample, tmp_path):
    first, second = fit_projection(sample, 5, whiten=True), fit_projection(sample.copy(), 5, whiten=True)
    np.testing.assert_array_equal(first.matrix, second.matrix)
    first.save(tmp_path / "p.safetensors")
    loaded = Projection.load(tmp_path / "p.safetensors")
    np.testing.assert_array_equal(loaded.matrix, first.matrix)
    np.testing.assert_array_equal(loaded.mean, first.mean)


def test_directions_without_variance_are_not_blown_up(rng):
    flat = np.repeat(rng.normal(size=(50, 1)), 6, axis=1).astype(np.float32)
    y = fit_projection(flat, 4, whiten=True)(flat)
    assert np.isfinite(y).all() and (np.abs(y[:, 1:]) < 1e-2).all()


@pytest.mark.parametrize(("rows", "dim", "limit"), [(400, 13, "12"), (5, 8, "4"), (1, 1, "0")])
def test_more_dimensions_than_there_are_is_told_with_the_limit(sample, rows, dim, limit):
    with pytest.raises(UsageError, match=f"at most {limit}"):
        fit_projection(sample[:rows], dim, whiten=False)


def test_a_damaged_file_is_told(tmp_path):
    (tmp_path / "p.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DamagedIndexError):
        Projection.load(tmp_path / "p.safetensors")


def test_the_chain_is_l2_projection_l2(sample):
    projection = fit_projection(l2_normalize(sample), 6, whiten=True)
    expected = projection(sample / np.linalg.norm(sample, axis=1, keepdims=True))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(Postprocess(projection=projection)(sample), expected, atol=1e-5)
    np.testing.assert_array_equal(Postprocess(normalize=False)(sample), sample)
    np.testing.assert_array_equal(Postprocess(False, projection)(sample), projection(sample))
