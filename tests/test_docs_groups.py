"""What docs/groups.md tells runs, in its order."""

import re
import shlex
from pathlib import Path

import pytest
from test_docs import PAGES, somewhere  # noqa: F401 - the last is a fixture

import embedsearch as es
from embedsearch.cli.main import run


@pytest.fixture
def photos(somewhere):  # noqa: F811
    for path in sorted((somewhere / "photos").glob("*.png"))[:2]:
        (path.parent / f"copy-{path.name}").write_bytes(path.read_bytes())
    return es.build("photos/", "indexes/photos", weights="packaged", size=64)


def test_the_commands_do_what_they_say(photos, monkeypatch, capsys):
    n = len(photos)
    for block in re.findall(r"```sh\n(.*?)```", PAGES["groups.md"], re.DOTALL):
        for line in block.splitlines():
            words = shlex.split(line)
            if words[0] == "pip" or ("map" in words and "pca" not in words):
                continue
            with monkeypatch.context() as patch:
                if "<" in words:
                    patch.setattr("sys.stdin", Path(words[-1]).read_text().splitlines(keepends=True))
                    words = words[: words.index("<")]
                with pytest.raises(SystemExit) as end:
                    run(words[1:])
            assert end.value.code == 0, capsys.readouterr().err
    assert len(es.open("indexes/photos")) == n - 2


def test_the_python_runs(photos):
    names: dict[str, object] = {}
    for code in re.findall(r"```python\n(.*?)```", PAGES["groups.md"], re.DOTALL):
        exec(compile(code, "groups.md", "exec"), names)
    assert len(names["index"]) == len(photos) - 2 == len(names["made"].ids)
