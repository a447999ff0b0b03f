"""What happens to pooled vectors before they are stored: L2, PCA, whitening; numpy only."""

from embedsearch.postprocess.chain import Postprocess
from embedsearch.postprocess.pca import Projection, fit_projection

__all__ = ["Postprocess", "Projection", "fit_projection"]
