"""Index families: FAISS structures behind one contract, rows in and rows out."""

from embedsearch.index.base import VectorIndex
from embedsearch.index.choose import Choice, IndexRequest, choose_index
from embedsearch.index.live import LiveIndex

__all__ = ["Choice", "IndexRequest", "LiveIndex", "VectorIndex", "choose_index"]
