import numpy as np
import pytest
from sklearn.covariance import LedoitWolf, ledoit_wolf_shrinkage
from sklearn.decomposition import PCA

from embedsearch.errors import DamagedIndexError, UsageError
from embedsearch.postprocess import Postprocess, Projection, fit_projection
from embedsearch.vectors import l2_normalize


@pytest.fixture
def sample(rng):
    scales = np.linspace(3, 0.2, 12)
    return (rng.normal(size=(400, 12)) * scales @ rng.normal(size=(12, 12)) + 5).astype(np.float32)


@pytest.mark.parametrize("n", [400, 9])
def test_projection_is_scikit_learns(sample, n):
    sample = sample[:n]  # more and fewer vectors than dimensions go by different roads
    ours = fit_projection(sample, 7, whiten=False)(sample)
    theirs = PCA(7, svd_solver="full").fit_transform(sample.astype(np.float64))
    signs = np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs * signs, atol=1e-3 * np.abs(theirs).max())


@pytest.mark.parametrize("n", [400, 40, 14, 9])
def test_whitened_by_the_covariance_that_scikit_learns_ledoit_wolf_shrinks(sample, n):
    sample = sample[:n]
    projection = fit_projection(sample, 7, whiten=True)
    assert projection.shrinkage == pytest.approx(ledoit_wolf_shrinkage(sample.astype(np.float64)), rel=1e-6)
    unit = projection.matrix.T @ LedoitWolf().fit(sample.astype(np.float64)).covariance_ @ projection.matrix
    np.testing.assert_allclose(unit, np.eye(7) * (n - 1) / n, atol=1e-3)  # scikit-learn divides by n


def test_the_power_of_whitening_is_that_of_the_standard_deviations(sample):
    full, half = (fit_projection(sample, 7, whiten=True, power=power) for power in (1.0, 0.5))
    plain = fit_projection(sample, 7, whiten=False)
    deviations = 1 / np.linalg.norm(full.matrix, axis=0)  # directions have unit length, and are divided by them
    np.testing.assert_allclose(half.matrix, plain.matrix / np.sqrt(deviations), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(full.matrix, plain.matrix / deviations, rtol=1e-4, atol=1e-6)


def test_with_plenty_of_vectors_whitened_dimensions_are_uncorrelated_with_unit_variance(rng):
    x = (rng.normal(size=(20_000, 12)) * np.linspace(3, 1, 12)).astype(np.float32)
    np.testing.assert_allclose(np.cov(fit_projection(x, 8, whiten=True)(x).T), np.eye(8), atol=5e-3)


def test_whitening_to_nearly_as_many_dimensions_as_vectors_keeps_what_is_alike_alike(rng):
    """Two noisy views of each item; unshrunk whitening finds less than half of what is found without it."""
    items = rng.normal(size=(80, 64)) * np.geomspace(1, 0.01, 64)
    one, other = ((items + rng.normal(size=items.shape) * 0.1).astype(np.float32) for _ in range(2))

    def found(x, y):
        return np.mean((l2_normalize(x) @ l2_normalize(y).T).argmax(axis=1) == np.arange(80))

    projection = fit_projection(one, 64, whiten=True)
    plain = PCA(64, whiten=True, svd_solver="full").fit(one)
    shrunk = found(projection(other), projection(one))
    assert found(plain.transform(other), plain.transform(one)) < 0.5 * shrunk
    assert shrunk >= 0.95 * found(other, one)
    assert projection.note == (
        f"fitted on 80 vectors of 64 dimensions, shrunk by {projection.shrinkage:.2g} towards equal variances"
    )
    assert fit_projection(one, 8, whiten=False).note == "fitted on 80 vectors of 64 dimensions"


def test_the_same_sample_gives_the_same_projection_and_it_survives_the_disk(sample, tmp_path):
    first, second = fit_projection(sample, 5, whiten=True), fit_projection(sample.copy(), 5, whiten=True)
    np.testing.assert_array_equal(first.matrix, second.matrix)
    first.save(tmp_path / "p.safetensors")
    loaded = Projection.load(tmp_path / "p.safetensors")
    np.testing.assert_array_equal(loaded.matrix, first.matrix)
    np.testing.assert_array_equal(loaded.mean, first.mean)
    assert (loaded.n_sample, loaded.shrinkage) == (400, first.shrinkage)


def test_a_file_of_before_fits_were_told_is_read(tmp_path):
    from safetensors.numpy import save_file

    save_file({"mean": np.zeros(2, np.float32), "matrix": np.eye(2, dtype=np.float32)}, tmp_path / "p.safetensors")
    loaded = Projection.load(tmp_path / "p.safetensors")
    assert (loaded.n_sample, loaded.shrinkage, loaded.note) == (None, None, "")


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
