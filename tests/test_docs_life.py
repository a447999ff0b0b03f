"""What docs/life.md and the README tell of changing an index runs, in this order."""

import re
import shlex
import shutil

import pytest
from test_docs import PAGES, README, somewhere  # noqa: F401 - the last is a fixture

import embedsearch as es
from embedsearch.cli.main import run
from embedsearch.pipeline import advice


def commands(page):
    section = page.split("An index that lives on")[1]
    return [line.split("  #")[0] for line in re.search(r"```sh\n(.*?)```", section, re.DOTALL).group(1).splitlines()]


@pytest.fixture
def photos(somewhere, emoji):  # noqa: F811
    shutil.copy("cat.jpg", "photos/cat.jpg")
    es.build("photos/", "indexes/photos", weights="packaged", size=64)
    (somewhere / "new-photos").mkdir()
    for path in emoji["google"][10:13]:
        shutil.copy(path, "new-photos")
    return somewhere


@pytest.mark.parametrize("page", ["README.md", "life.md"])
def test_the_commands_do_what_they_say(page, photos, capsys):
    lines = commands(PAGES[page])
    assert [line.split()[1] for line in lines] == ["add", "delete", "optimize"]
    counts = []
    for line in lines:
        with pytest.raises(SystemExit) as end:
            run(shlex.split(line)[1:])
        assert end.value.code == 0, capsys.readouterr().err
        counts.append(len(es.open("indexes/photos")))
    assert counts == ([11, 10, 10] if page == "README.md" else [11, 7, 7])
    assert "cat.jpg" not in es.open("indexes/photos").ids


def test_the_python_runs(photos):
    names: dict[str, object] = {}
    code = re.search(r"```python\n(.*?)```", PAGES["life.md"], re.DOTALL).group(1)
    exec(compile(code, "life.md", "exec"), names)
    assert len(names["index"]) == 10 and names["newer"] is False
    for report, fields in re.findall(r"index\.(\w+)\(.*# (.*)", code):
        assert report in ("add", "delete", "optimize", "refresh") and fields


def test_the_thresholds_are_those_of_the_code():
    page = PAGES["life.md"]
    assert f"above {advice.TAIL_SHARE:.0%}".replace("%", " %") in page
    assert f"above {advice.DEAD_SHARE:.0%}".replace("%", " %") in page
    assert f"({'and'} {advice.MIN_ROWS:,}" in page and f"more than {advice.MAX_PIECES} pieces" in page
    assert f"above {advice.FLAT_MAX_VALUES // 10**6} million values" in page and "docs/life.md" in README
