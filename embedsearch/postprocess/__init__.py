"""What happens to pooled vectors before they are stored: L2, PCA, whitening; numpy only."""

from embedsearch.postprocess.pca import Projection, fit_projection
from embedsearch.postprocess.chain import Postprocess

__all__ = ["Postprocess", "Projection", "fit_projection"]
