"""What docs/evaluate.md tells runs, in this order."""

import json
import re
import shlex
import shutil

import pytest
from test_docs import PAGES, somewhere  # noqa: F401 - the last is a fixture

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.evaluate import bootstrapped
from embedsearch.evaluate.bootstrap import RESAMPLES
from embedsearch.pipeline.judging.judge import SAMPLE
from embedsearch.pipeline.judging.sheet import N_DRAWN

PAGE = PAGES["evaluate.md"]


def test_the_page_runs(somewhere, emoji, capsys):  # noqa: F811
    index = es.build("photos/", "indexes/photos", weights="packaged", size=64)
    (somewhere / "new-photos").mkdir()
    for path in emoji["google"][:3]:
        shutil.copy(path, "new-photos")
    rows = [f"{item_id},{'ab'[at % 2]}" for at, item_id in enumerate(sorted(index.ids))]
    (somewhere / "labels.csv").write_text("\n".join(["id,label", *rows]))
    lines = re.search(r"```sh\n(.*?)```", PAGE, re.DOTALL).group(1).splitlines()
    printed = []
    for line in lines:
        with pytest.raises(SystemExit) as end:
            run(shlex.split(line)[1:])
        told = capsys.readouterr()
        assert end.value.code == 0, told.err
        printed.append(told.out)
    assert "7 queries among 7 items" in printed[0] and (somewhere / "worst.png").exists()
    assert json.loads(printed[2])["k"] == 5
    names: dict[str, object] = {"index": index}
    exec(compile(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1), "evaluate.md", "exec"), names)
    assert names["p"].low <= names["p"].mean <= names["p"].high and len(names["values"]) == 7
    assert names["first"].label in "ab"


def test_the_section_on_expansion_runs(somewhere, emoji, capsys):  # noqa: F811
    index = es.build("photos/", "indexes/photos", weights="packaged", size=64)
    rows = [f"{item_id},{'ab'[at % 2]}" for at, item_id in enumerate(sorted(index.ids))]
    (somewhere / "labels.csv").write_text("\n".join(["id,label", *rows]))
    section = PAGE.split("## Asking again with the best answers")[1].split("\n## ")[0]
    for line in re.search(r"```sh\n(.*?)```", section, re.DOTALL).group(1).splitlines():
        with pytest.raises(SystemExit) as end:
            run(shlex.split(line, comments=True)[1:])
        told = capsys.readouterr()
        assert end.value.code == 0, told.err
    names: dict[str, object] = {"index": index, "bootstrapped": bootstrapped}
    exec(compile(re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1), "evaluate.md", "exec"), names)
    assert len(names["hits"]) == 5 and names["hits"][0].score != index.search("cat.jpg", k=5)[0].score
    assert len(names["before"]) == len(names["after"]) == 7 and (names["before"] != names["after"]).any()


def test_the_numbers_of_the_page_are_those_of_the_code():
    assert f"{SAMPLE:,} queries" in PAGE and f"up to {N_DRAWN} rows" in PAGE and f"({RESAMPLES:,} resamples)" in PAGE
