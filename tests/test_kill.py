"""kill -9 at every place of a build, then the same command: the result is that of an undisturbed build."""

import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import killed_build
import numpy as np
import pytest

import embedsearch as es
from embedsearch.errors import UnfinishedBuildError
from embedsearch.pipeline import extract
from embedsearch.types import Modality

N = 20
SCRIPT = Path(killed_build.__file__)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, emoji):
    root = tmp_path_factory.mktemp("killed")
    for path in emoji["google"][:N]:
        shutil.copy(path, root)
    (root / "bad.png").write_bytes(b"no picture")
    return root


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, folder):
    out = tmp_path_factory.mktemp("undisturbed")
    return {
        whiten: es.build(
            folder, out / f"w{whiten}", **killed_build.OPTIONS, **({"whiten": int(whiten)} if whiten else {})
        )
        for whiten in ("", "5")
    }


def killed(place, log, folder, out, whiten):
    arguments = [sys.executable, str(SCRIPT), place, str(log), str(folder), str(out), *([whiten] if whiten else [])]
    return subprocess.run(arguments, capture_output=True, text=True)


def go_on(log, folder, out, whiten=""):
    """The same build here, in a process that knows nothing of the killed one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(extract.SHARD_SIZES, Modality.IMAGE, killed_build.SHARD)
        patch.setattr(extract.Worker, "__call__", killed_build.log_extraction(log))
        return es.build(folder, out, **killed_build.OPTIONS, **({"whiten": int(whiten)} if whiten else {}))


CASES = [(place, "") for place in killed_build.PLACES]
CASES += [(place, "5") for place in ("after the first commit", *killed_build.PLACES_OF_FITTING)]


@pytest.mark.parametrize(("place", "whiten"), CASES, ids=[f"{place}{' w' if w else ''}" for place, w in CASES])
def test_a_killed_build_goes_on(place, whiten, folder, undisturbed, tmp_path):
    out, log = tmp_path / "index", tmp_path / "log"
    log.touch()
    done = killed(place, log, folder, out, whiten)
    assert done.returncode == -signal.SIGKILL, done.stderr
    if place == "after the manifest is renamed":
        assert len(es.open(out)) == N, "what is committed can be read at once"
    else:
        with pytest.raises(UnfinishedBuildError):
            es.open(out)
    go_on(log, folder, out, whiten)
    ours, theirs = es.open(out), undisturbed[whiten]
    assert ours.ids == theirs.ids and len(ours) == N
    np.testing.assert_allclose(ours.vectors(ours.ids), theirs.vectors(theirs.ids), atol=1e-6)
    for mine, other in zip(ours.similar_many(ours.ids, k=5), theirs.similar_many(theirs.ids, k=5), strict=True):
        assert [hit.id for hit in mine] == [hit.id for hit in other]
        np.testing.assert_allclose([hit.score for hit in mine], [hit.score for hit in other], atol=1e-5)
    assert (out / "skipped.jsonl").read_text() == (theirs.path / "skipped.jsonl").read_text()
    extracted = Counter(name for name in log.read_text().split() if name != "bad.png")
    twice = [name for name, count in extracted.items() if count > 1]
    assert set(extracted) == set(ours.ids) and max(extracted.values()) <= 2
    most = 2 if place.endswith("commit") else 0  # shards: one is computed while the other is stored
    assert len(twice) <= most * killed_build.SHARD, "at most the uncommitted shards are extracted again"
    leftovers = {path.name for path in out.iterdir()} & {"build.json", "pooled.lance", "skipped.jsonl.partial"}
    assert not leftovers


def test_a_generation_that_readers_need_outlives_a_killed_replacement(folder, tmp_path):
    out = tmp_path / "index"
    old = es.build(folder, out, **killed_build.OPTIONS)
    code = (
        "import killed_build; killed_build.arm('in the middle of the index file'); "
        "from embedsearch.engine.building import build_with_report; "
        f"build_with_report({str(folder)!r}, {str(out)!r}, restart=True, **killed_build.OPTIONS)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parent, capture_output=True)
    es.build(folder, out, restart=True, **killed_build.OPTIONS)
    kept = {path.name for path in out.glob("index-*.faiss")}
    assert old.info()["index"]["file"] in kept and es.open(out).info()["index"]["file"] in kept and len(kept) == 2


def test_a_killed_update_goes_on(folder, emoji, tmp_path):
    """New, changed and vanished inputs over a finished index, killed after each commit of the store."""
    source, log = shutil.copytree(folder, tmp_path / "source"), tmp_path / "log"
    log.touch()
    es.build(source, tmp_path / "finished", **killed_build.OPTIONS)
    names = sorted(path.name for path in source.glob("*.png"))
    for path in emoji["google"][30:38]:
        shutil.copy(path, source)
    shutil.copy(emoji["google"][60], source / names[3])
    (source / names[5]).unlink()
    expected = es.build(source, tmp_path / "expected", **killed_build.OPTIONS)
    for place in ("after the first commit", "after a replacement", "after a deletion", "before compaction"):
        out = shutil.copytree(tmp_path / "finished", tmp_path / place.replace(" ", "-"))
        done = killed(place, log, source, out, "")
        assert done.returncode == -signal.SIGKILL, f"{place}: {done.stderr}"
        before = es.open(out)
        assert len(before) == N and names[5] in before.ids, "readers still have the generation before"
        go_on(log, source, out)
        ours = es.open(out)
        assert sorted(ours.ids) == sorted(expected.ids)
        np.testing.assert_allclose(ours.vectors(expected.ids), expected.vectors(expected.ids), atol=1e-6)


@pytest.mark.parametrize(
    "place", ["after the second commit", "in the middle of the index file", "before the manifest is renamed"]
)
def test_a_killed_replacement_leaves_the_old_index(place, folder, tmp_path):
    """--restart over a finished index of another recipe, killed: the old one is still served."""
    out = tmp_path / "index"
    old = es.build(folder, out, pooling="max", **killed_build.OPTIONS)
    before = old.vectors(old.ids)
    code = f"import killed_build; killed_build.arm({place!r}); import sys; sys.argv[1:]; " \
        "from embedsearch.pipeline import extract; extract.SHARD_SIZES['image'] = 6; " \
        "from embedsearch.engine.building import build_with_report; " \
        f"build_with_report({str(folder)!r}, {str(out)!r}, restart=True, **killed_build.OPTIONS)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], cwd=SCRIPT.parent, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    reopened = es.open(out)
    assert reopened.info()["recipe"]["pooling"] == "max"
    np.testing.assert_array_equal(reopened.vectors(old.ids), before)
    # the same command without --restart goes on with the replacement
    replaced = es.build(folder, out, **killed_build.OPTIONS)
    assert replaced.info()["recipe"]["pooling"] == "rmac" and replaced.info()["generation"] == 2
    assert len(replaced) == N and reopened.vectors(old.ids).shape == before.shape
