"""What docs/tune.md tells runs, in its order; small pictures and few layers keep it short."""

from __future__ import annotations

import re
import shlex
import shutil
from functools import partial

import pytest
from test_docs import PAGES, somewhere  # noqa: F401 - the last is a fixture

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.pipeline.tune import candidates, pooled, tune, unlabelled

PAGE = PAGES["tune.md"]
SMALL = "--size 64 --layer features.15 --layer features.22"


def test_the_page_runs(somewhere, emoji, capsys, monkeypatch):  # noqa: F811
    rows = ["id,label"]
    for vendor, paths in emoji.items():
        for path in paths[:26]:
            shutil.copy(path, somewhere / "photos" / f"{vendor}-{path.name}")
            rows.append(f"{vendor}-{path.name},{path.stem}")
    (somewhere / "labels.csv").write_text("\n".join(rows))
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL):
        for line in block.splitlines():
            with pytest.raises(SystemExit) as end:
                run(shlex.split(f"{line} {SMALL if ' tune ' in line else ''}")[1:])
            told = capsys.readouterr()
            assert end.value.code == 0, told.err
    assert (somewhere / "best.png").exists()
    monkeypatch.setattr(es, "tune", partial(es.tune, size=64, layers=["features.15", "features.22"]))
    names: dict[str, object] = {"es": es}
    exec(compile(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1), "tune.md", "exec"), names)
    assert len(names["index"]) == 59 and names["tuned"].recipe["size"] == 64


def test_the_numbers_of_the_page_are_those_of_the_code():
    assert f"{tune.SAMPLE:,} items" in PAGE and f"{pooled.SHARD} items a file" in PAGE
    assert f"at least {unlabelled.LEAST_AGREEMENT:g}" in PAGE
    *most, last = (f"{dim:,}" for dim in candidates.DIMS)
    assert f"to {', '.join(most)} and {last} dimensions" in PAGE
    for pooling in {*candidates._OF_MAPS, *candidates._OF_TOKENS}:
        assert pooling in PAGE
