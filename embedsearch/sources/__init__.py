"""Where items come from: folders, globs, files of texts, tables, matrices; local or on any fsspec URL."""

from embedsearch.sources.arrays import ArraySource, read_matrix
from embedsearch.sources.base import Columns, ItemSource
from embedsearch.sources.beside import read_beside
from embedsearch.sources.files import printable, read_bytes
from embedsearch.sources.folder import UNLISTED
from embedsearch.sources.lines import LinesSource, read_lines
from embedsearch.sources.opening import open_source
from embedsearch.sources.prefixed import PrefixedSource
from embedsearch.sources.tensors import TensorSource

__all__ = [
    "UNLISTED",
    "ArraySource",
    "Columns",
    "ItemSource",
    "LinesSource",
    "PrefixedSource",
    "TensorSource",
    "open_source",
    "printable",
    "read_beside",
    "read_bytes",
    "read_lines",
    "read_matrix",
]
