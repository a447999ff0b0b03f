"""Word vectors written by hand, in word2vec's and GloVe's formats."""

import gzip
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedsearch.errors import SourceError
from embedsearch.pipeline.table import EmbeddingTable
from embedsearch.sources.word_vectors import read_word_vectors

WORD2VEC = b"3 2\nking 0.5 -1\nqueen 1e-3 2.25 \n</s> 0 nan\n"
ROWS = [[0.5, -1], [1e-3, 2.25], [0, np.nan]]


@pytest.mark.parametrize("name", ["w.txt", "w.vec", "w.txt.gz", "w.vec.gz"])
@pytest.mark.parametrize("content", [WORD2VEC, WORD2VEC[4:], WORD2VEC.replace(b"\n", b"\r\n"), WORD2VEC + b"\n"])
def test_with_and_without_header(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith("gz") else content)
    table = EmbeddingTable.load(path)
    assert table.ids == ["king", "queen", "</s>"] and table.shape == (3, 2) and table.location == str(path)
    np.testing.assert_array_equal(table.rows, np.float32(ROWS))
    np.testing.assert_array_equal(table.lookup("queen"), np.float32(ROWS[1]))
    assert EmbeddingTable.load(str(path), "vectors").shape == (3, 2)
    assert EmbeddingTable.candidates(path) == [("vectors", (3, 2))]


def test_words_with_spaces_broken_bytes_and_repeats(tmp_path):
    """As glove.840B.300d.txt has them."""
    path = tmp_path / "glove.txt"
    path.write_bytes(
        b"the 1 2 3\n. . . 4 5 6\nat name@domain.com 7 8 9\nf\xffo 1 1 1\n"
        b"\xc2\xa0 2 2 2\nthe 0 0 0\n1 2 3 4\n\x85 1 0 0\n"
    )
    words, rows = read_word_vectors(str(path))
    assert words == ["the", ". . .", "at name@domain.com", "f\\xffo", "\u00a0", "the", "1", "\\x85"]
    assert rows.dtype == np.float32 and rows[1].tolist() == [4, 5, 6] and rows[6].tolist() == [2, 3, 4]
    table = EmbeddingTable.load(path)
    assert table.lookup("the").tolist() == [1, 2, 3], "the first one wins"
    assert table.lookup([["at name@domain.com"], ["1"]]).tolist() == [[[7, 8, 9]], [[2, 3, 4]]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no word vectors"),
        (b"\n\n", "no word vectors"),
        (b"0 5\n", "no word vectors"),
        (b"5 0\n", "vectors of 0 numbers"),
        (b"3 2\na 1 2\nb 3 4\n", "the header promises 3 vectors, the file holds 2"),
        (b"1 2\na 1 2\nb 3 4\n", "the header promises 1 vectors, the file holds 2"),
        (b"2 3\na 1 2\nb 3 4\n", "line 2: a word and 2 numbers, where a word and 3 numbers belong"),
        (b"a 1 2\nb 3\n", "line 2: a word and 1 numbers, where a word and 2"),
        (b"a 1 2\n\nb 3 x\n", "line 3: could not convert string to float: b'x'"),
        (b"a 1 2\nbb\n", "line 2: a word without numbers"),
        (b"alone\n", "line 1: a word without numbers, where a word and more"),
        (b"a b c\n", "line 1: could not convert"),
        (b"\x1f\x8bnonsense", "cannot be read"),
        (gzip.compress(WORD2VEC, mtime=0)[:-12], "cannot be read"),
    ],
)
def test_what_does_not_fit_is_told_with_its_line(tmp_path, content, message):
    (tmp_path / "w.txt").write_bytes(content)
    with pytest.raises(SourceError, match=message) as told:
        EmbeddingTable.load(tmp_path / "w.txt")
    assert str(tmp_path / "w.txt") in str(told.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(SourceError, match="does not exist"):
        EmbeddingTable.load(tmp_path / "none.vec")


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zs")), min_size=1), min_size=1, max_size=6
    ),
    st.integers(2, 4),
    st.integers(0, 2**32 - 1),
)
def test_any_words_and_numbers_come_back(tmp_path_factory, words, dim, seed):
    rows = np.random.default_rng(seed).normal(size=(len(words), dim)).astype(np.float32)
    path = tmp_path_factory.getbasetemp() / "any.vec"
    lines = [f"{word} {' '.join(map(repr, row.tolist()))}" for word, row in zip(words, rows, strict=True)]
    path.write_text("\n".join([f"{len(words)} {dim}", *lines, ""]), encoding="utf-8", newline="\n")
    found, matrix = read_word_vectors(str(path))
    assert found == words
    np.testing.assert_array_equal(matrix, rows)


def test_neither_words_nor_arrays_need_torch(tmp_path):
    (tmp_path / "w.txt").write_bytes(WORD2VEC)
    np.savez(tmp_path / "x.npz", emb=np.eye(3, dtype=np.float32))
    np.save(tmp_path / "x.npy", np.eye(4))
    code = f"""
import sys
from embedsearch.pipeline.table import EmbeddingTable
assert EmbeddingTable.load({str(tmp_path / "w.txt")!r}).lookup("king").tolist() == [0.5, -1]
assert EmbeddingTable.load({str(tmp_path / "x.npz")!r}, "emb").lookup([1]).tolist() == [[0, 1, 0]]
assert EmbeddingTable.load({str(tmp_path / "x.npy")!r}).lookup(2).tolist() == [0, 0, 1, 0]
table = EmbeddingTable.load({{"emb": __import__("numpy").eye(2, dtype="float32")}}, "emb")
next(table.as_source().blocks(5))
assert not {{"torch", "keras", "transformers"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_memory_is_that_of_the_matrix(tmp_path):
    """40,000 x 100 float32 are 16 MB; as Python floats they would be 120 MB."""
    import tracemalloc

    path = tmp_path / "w.vec"
    line = b" 0.125" * 100 + b"\n"
    path.write_bytes(b"".join(b"w%d" % i + line for i in range(40_000)))
    tracemalloc.start()
    try:
        table = EmbeddingTable.load(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert table.shape == (40_000, 100) and peak < 45e6
