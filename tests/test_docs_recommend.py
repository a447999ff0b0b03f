"""The page about recommending: its examples run, and its table is what the code does."""

import re
import shlex

import numpy as np
import pytest
from test_docs import PAGES

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.pipeline.recommend.answer import LEAST_POOL, POOL_PER_SLOT
from embedsearch.pipeline.recommend.saved import WIDTH
from embedsearch.recommend.profiles import MOST_TASTES, PUSH
from embedsearch.recommend.strategies import FEW, NEIGHBOURS, STRATEGIES
from embedsearch.recommend.votes import RRF_K

PAGE = PAGES["recommend.md"]
FILMS = """id,title,genre,year
1,Toys that come alive,animation,1995
2,A toy in space,animation,1999
3,A monster on a space ship,horror,1979
4,A monster in the ice,horror,1982
5,A ship sinks in the Atlantic,drama,1997
6,Cars that talk,animation,2006
7,A robot learns to love,drama,2001
8,A lonely robot on a dead planet,animation,2008
9,A haunted house,horror,2013
10,Two lovers on a train,drama,1995
"""


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "films.csv").write_text(FILMS)
    rng = np.random.default_rng(0)
    lines = [
        f"u{user},{item},{rng.integers(1, 6) - 2.5},{time}"
        for user in range(12)
        for time, item in enumerate(rng.permutation(10)[:7] + 1)
    ]
    (tmp_path / "ratings.csv").write_text("user,item,weight,time\n" + "\n".join(lines) + "\n")
    return tmp_path


def test_the_examples_run(somewhere, capsys):
    notebook, blend = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len([line for line in notebook.splitlines() if line.strip()]) <= 20
    names: dict[str, object] = {}
    exec(compile(notebook, "recommend.md", "exec"), names)
    told = capsys.readouterr().out.splitlines()
    assert sum(" because of " in line for line in told) == 3
    assert any(line.startswith("popularity") for line in told) and "held out (last), k = 3" in "".join(told)
    assert set(names["ids"]).isdisjoint({"1"}) and names["many"].ids.shape == (12, 3)
    years = {item: names["index"].item(item).metadata for item in names["ids"]}
    assert all(row["year"] >= 2000 for row in years.values()) and len({row["genre"] for row in years.values()}) == 3
    names["factors"] = es.build(
        np.random.default_rng(0).normal(size=(8, 4)), "indexes/factors", ids=[str(n) for n in range(1, 9)], metric="ip"
    )
    exec(compile(blend, "recommend.md", "exec"), names)
    assert len(names["ids"]) == 3
    for line in re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL).group(1).splitlines():
        with pytest.raises(SystemExit) as end:
            run(shlex.split(line)[1:])
        assert end.value.code == 0, capsys.readouterr().err
    assert "because" in capsys.readouterr().out


def test_the_page_says_what_the_code_does():
    table = PAGE.split("## Strategies")[1].split("## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == ["strategy", *STRATEGIES, "auto"]
    for told in (
        f"w / ({RRF_K} + rank of i among the {NEIGHBOURS} nearest",
        f"q - {PUSH} mean(b)",
        f"less {PUSH} x the largest",
        f"at most {MOST_TASTES}",
        f"`centroid` up to {FEW - 1} likes, `max` from {FEW} on",
    ):
        assert told in table, told
    assert f"({WIDTH}\nfor each" in PAGE and f"more than {WIDTH - NEIGHBOURS} of its neighbours" in PAGE
    assert POOL_PER_SLOT == 10 and f"at least\n{LEAST_POOL})" in PAGE
