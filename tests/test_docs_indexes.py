"""What docs/indexes.md and the README tell of promises runs, and says what they say."""

import re
import shlex

import numpy as np
import pytest
from test_docs import PAGES

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.index import IndexRequest, choose_index


@pytest.fixture
def vectors(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    x = (rng.normal(size=(1500, 8)) @ rng.normal(size=(8, 24))).astype(np.float32)
    np.save("vectors.npy", x)
    return x


@pytest.mark.parametrize(
    ("page", "heading"), [("README.md", "keeps its promises"), ("indexes.md", "keep their promises")]
)
def test_the_commands_run(page, heading, vectors, capsys):
    section = PAGES[page].split(heading, 1)[1]
    lines = re.search(r"```sh\n(.*?)```", section, re.DOTALL).group(1).splitlines()
    for line in lines:
        words = shlex.split(line.split("  #")[0])[1:]
        with pytest.raises(SystemExit) as end:
            run([*words, "--restart"] if words[0] == "build" else words)
        captured = capsys.readouterr()
        assert end.value.code == 0, (line, captured.err)
        if "--recall" in words and words[0] == "build":
            assert es.open("indexes/vectors").info()["index"]["recall_at_10"] >= float(
                words[words.index("--recall") + 1]
            )


def test_the_thresholds_that_the_page_names():
    page = PAGES["indexes.md"]
    assert "up to 50 million values" in page and choose_index(IndexRequest(), 500_000, 100).family == "flat"
    assert choose_index(IndexRequest(), 500_001, 100).family == "graph"
    assert "recall above 0.999" in page and choose_index(IndexRequest(recall=0.9991), 10**7, 100).family == "flat"
    assert "n (min(D, 256) + D + 204)" in page
    assert choose_index(IndexRequest(), 10**6, 384).memory_bytes == 10**6 * (256 + 384 + 204)
    assert choose_index(IndexRequest(recall=0.995), 10**6, 384).memory_bytes == 10**6 * (256 + 2 * 384 + 204)
    assert "Of at most 1,000 rows" in page
    from embedsearch.pipeline.search import EXACT_ROWS
    from embedsearch.pipeline.truth import N_QUERIES

    assert EXACT_ROWS == 1000 and "at most 2,000 rows" in page and N_QUERIES == 2000
