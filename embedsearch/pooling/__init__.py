"""From the features of a layer to one vector an item."""

from embedsearch.pooling.functions import cls_pool, gem_pool, max_pool, mean_pool, pool

__all__ = ["cls_pool", "gem_pool", "max_pool", "mean_pool", "pool"]
