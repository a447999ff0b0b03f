"""Index families: FAISS structures behind one contract, rows in and rows out."""

from embedsearch.index.base import VectorIndex
from embedsearch.index.choose import Choice, choose_index

__all__ = ["Choice", "VectorIndex", "choose_index"]
