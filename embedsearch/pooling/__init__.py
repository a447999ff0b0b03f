"""From features to one vector an item."""

from embedsearch.pooling.apply import average, pool

__all__ = ["average", "pool"]
