"""From vectors to two dimensions."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import MissingExtraError, UsageError
from embedsearch.vectors import Matrix

METHODS = ("umap", "tsne", "pca")
_FEW = 5  # below, no item has neighbours to speak of
_COMPONENTS = 50  # of PCA, before umap or tsne: these look at distances, which noise in the rest would blur
_NEIGHBOURS = 15


def coordinates(x: Matrix, method: str, seed: int) -> NDArray[np.float32]:
    """float32 N x 2, the same for the same x and seed.

    pca: the two directions of most variance. umap: McInnes et al. 2018; tsne: van der Maaten 2014; both of the first 50
    principal components. Raises UsageError for another method, MissingExtraError without the extra `map`.
    """
    if method not in METHODS:
        raise UsageError(f"method {method!r} is not known; valid: {', '.join(METHODS)}")
    check_installed(method)
    if method == "pca" or len(x) < _FEW:
        return principal(x, 2)
    if (x == x[0]).all():
        return np.zeros((len(x), 2), np.float32)  # t-SNE divides by their spread, and its library dies of the NaN
    reduced = principal(x, _COMPONENTS)
    scale = float(np.abs(reduced).max(initial=0)) or 1.0
    return _umap(reduced / scale, seed) if method == "umap" else _tsne(reduced / scale, seed)


_PACKAGES = {"umap": "umap", "tsne": "sklearn"}


def check_installed(method: str) -> None:
    """Raises MissingExtraError where `method` needs what is not there."""
    from importlib.util import find_spec

    package = _PACKAGES.get(method)
    if package is not None and find_spec(package) is None:
        raise MissingExtraError(
            f"method {method} needs the extra: pip install 'embedsearch[map]'; pca works without it"
        )


def principal(x: Matrix, n: int) -> Matrix:
    """x on its n directions of most variance, float32 N x n, zero where it has fewer; each direction with the sign that
    makes its largest part positive."""
    if len(x) == 0:
        return np.zeros((0, n), np.float32)
    mean = x.mean(axis=0, dtype=np.float64)
    covariance = x.T.astype(np.float64) @ (x - mean)
    covariance = (covariance + covariance.T) / 2
    _, directions = np.linalg.eigh(covariance)
    directions = directions[:, ::-1][:, :n]
    largest = np.abs(directions).argmax(axis=0)
    directions = directions * np.where(directions[largest, np.arange(directions.shape[1])] < 0, -1, 1)
    found = np.zeros((len(x), n), np.float32)
    found[:, : directions.shape[1]] = (x - mean) @ directions
    return found


def _umap(x: Matrix, seed: int) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numba's, and that a seed means one thread
        import umap

        spectral = len(x) > 4 * _NEIGHBOURS
        model = umap.UMAP(
            n_neighbors=min(_NEIGHBOURS, len(x) - 1),
            random_state=seed,
            init="spectral" if spectral else "random",
        )
        return np.asarray(model.fit_transform(x), np.float32)


def _tsne(x: Matrix, seed: int) -> NDArray[np.float32]:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(x) - 1) / 3)
    model = TSNE(perplexity=perplexity, init="pca" if x.shape[1] > 1 else "random", random_state=seed)
    return np.asarray(model.fit_transform(x), np.float32)
