"""Index families: FAISS structures behind one contract, rows in and rows out."""

from embedsearch.index.base import VectorIndex
from embedsearch.index.choose import Choice, choose_index
from embedsearch.index.live import LiveIndex

__all__ = ["Choice", "LiveIndex", "VectorIndex", "choose_index"]
