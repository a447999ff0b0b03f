"""Where items come from: folders, globs, files of texts, tables, matrices; local or on any fsspec URL."""

from embedsearch.sources.arrays import ArraySource
from embedsearch.sources.base import Columns, ItemSource
from embedsearch.sources.files import printable, read_bytes
from embedsearch.sources.folder import UNLISTED
from embedsearch.sources.opening import open_source

__all__ = ["UNLISTED", "ArraySource", "Columns", "ItemSource", "open_source", "printable", "read_bytes"]
