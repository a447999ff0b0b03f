"""What docs/explain.md says is so, and its examples run."""

import json
import re
import shlex

import numpy as np
import pytest
from test_docs import PAGES, README, somewhere  # noqa: F401 - the last is a fixture

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.registry import SHARES

PAGE = PAGES["explain.md"]


@pytest.fixture
def indexes(somewhere):  # noqa: F811
    (somewhere / "faq.txt").write_text("how long does a transfer take?\nmy card was stolen\nclose my account\n")
    es.build("photos/", "indexes/photos", weights="packaged", size=64)
    es.build("faq.txt", "indexes/faq")
    return somewhere


def shell(page):
    block = next(b for b in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) if "embedsearch explain" in b)
    return [line.split("  #")[0] for line in block.splitlines()]


@pytest.mark.parametrize("name", ["explain.md", "README.md"])
def test_the_commands_run_and_leave_their_files(name, indexes, capsys):
    lines = [line for line in shell(PAGES[name]) if line.startswith("embedsearch explain")]
    assert lines
    for line in lines:
        arguments = shlex.split(line)[1:]
        with pytest.raises(SystemExit) as end:
            run(arguments)
        printed = capsys.readouterr()
        assert end.value.code == 0, printed.err
        assert (indexes / arguments[arguments.index("--out") + 1]).stat().st_size > 1000
        if "--json" in arguments:
            assert set(json.loads(printed.out)["parts"]) == {"pairs", "mean", "lengths", "sum", "rounding"}


def test_the_python_runs(indexes):
    names: dict[str, object] = {}
    exec(compile(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1), "explain.md", "exec"), names)
    why = names["why"]
    assert why.pairs.shape == (len(why.query_shares), len(why.item_shares))
    again = es.explain("indexes/photos", "cat.jpg", id="1f30d.png")
    np.testing.assert_allclose(again.pairs, why.pairs)
    assert len(why.strongest(3)) == 3 and why.query.boxes().shape == (len(why.query_shares), 4)


def test_the_arrays_that_are_kept_are_those_the_page_names(indexes):
    es.explain("indexes/faq", "someone took my card", id="2").save("why.npz")
    with np.load("why.npz", allow_pickle=False) as kept:
        assert set(kept) == {"pairs", "query_mean", "item_mean", "query_places", "item_places", "about"}
    assert all(f"`{name}`" in PAGE for name in set(kept))


def test_every_pooling_that_is_split_has_its_line():
    table = "".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`([\w-]+)`", table)) == set(SHARES)
    assert "docs/explain.md" in README
