"""Folders that are no index, are half written, or have a flipped byte, fail in one clear sentence."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import embedsearch as es
from embedsearch.artifact import verify
from embedsearch.errors import ArtifactError, DamagedIndexError, EmbedSearchError, UnfinishedBuildError


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    rng = np.random.default_rng(0)
    out = tmp_path_factory.mktemp("sound") / "index"
    es.build(rng.normal(size=(200, 16)).astype(np.float32), out, metadata={"n": range(200)}, whiten=8)
    return out


@pytest.fixture
def copy(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "index")


def files_of(root):
    """What the manifest vouches for, and itself."""
    return ["manifest.json", *json.loads((root / "manifest.json").read_text())["files"]]


def test_the_files_are_those_we_expect(sound):
    kinds = {name.split("/")[0].split("-")[0] for name in files_of(sound)}
    assert kinds == {"manifest.json", "items.lance", "index", "postprocess"}


def test_a_flipped_byte_anywhere_is_noticed(sound, tmp_path):
    rng = np.random.default_rng(1)
    for n, name in enumerate(files_of(sound)):
        size = (sound / name).stat().st_size
        for place in {0, size // 2, size - 1, *rng.integers(0, size, 6).tolist()}:
            root = shutil.copytree(sound, tmp_path / f"{n}-{place}")
            data = bytearray((root / name).read_bytes())
            data[place] ^= 0x10
            (root / name).write_bytes(data)
            if name == "manifest.json" and _still_the_same(data, sound):
                continue  # white space between tokens
            with pytest.raises(DamagedIndexError, match="damaged"):
                es.open(root)


def _still_the_same(data, sound):
    try:
        return json.loads(data) == json.loads((sound / "manifest.json").read_text())
    except ValueError:
        return False


@pytest.mark.parametrize("kind", ["cut", "longer", "missing", "empty"])
def test_a_file_of_another_size_is_noticed(kind, sound, tmp_path):
    for n, name in enumerate(files_of(sound)):
        if (kind, name) == ("missing", "manifest.json"):
            continue
        root = shutil.copytree(sound, tmp_path / str(n))
        data = (root / name).read_bytes()
        if kind == "missing":
            (root / name).unlink()
        else:
            (root / name).write_bytes({"cut": data[:-7], "longer": data + b"x", "empty": b""}[kind])
        with pytest.raises(DamagedIndexError, match="damaged"):
            es.open(root)


def test_large_stores_are_compared_in_full_only_when_asked(copy, monkeypatch):
    monkeypatch.setattr(verify, "VERIFY_BYTES", 10)
    name = next(name for name in files_of(copy) if "/data/" in name)
    data = bytearray((copy / name).read_bytes())
    data[100] ^= 1
    (copy / name).write_bytes(data)
    es.open(copy)
    with pytest.raises(DamagedIndexError, match="is not what was written"):
        es.open(copy, verify=True)


def test_folders_that_are_no_index(tmp_path):
    with pytest.raises(ArtifactError, match="there is no index at"):
        es.open(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="no manifest"):
        es.open(tmp_path)
    (tmp_path / "build.json").write_text("{}")
    with pytest.raises(UnfinishedBuildError, match="run its build command again"):
        es.open(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError):
        es.open(tmp_path / "file")


def test_a_format_of_the_future_says_update(copy):
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**manifest, "format_version": 99}))
    with pytest.raises(ArtifactError, match="format version 99.*update"):
        es.open(copy)


def test_a_damaged_record_of_an_unfinished_build(tmp_path):
    out = tmp_path / "index"
    out.mkdir()
    (out / ".lock").touch()
    (out / "build.json").write_text("{")
    x = np.eye(4, dtype=np.float32)
    with pytest.raises(DamagedIndexError, match="--restart"):
        es.build(x, out)
    assert len(es.build(x, out, restart=True)) == 4


def test_a_damaged_index_can_be_replaced_and_is_not_written_to_before(copy):
    data = bytearray((copy / "manifest.json").read_bytes())
    data[40] ^= 1
    (copy / "manifest.json").write_bytes(data)
    x = np.eye(4, dtype=np.float32)
    with pytest.raises(EmbedSearchError):
        es.build(x, copy)
    assert (copy / "manifest.json").read_bytes() == bytes(data)
    assert len(es.build(x, copy, restart=True)) == 4


@pytest.mark.parametrize("version", [1, 2])
def test_an_index_of_an_old_format_still_opens_and_answers(version, tmp_path):
    """The folders were written once and are never written again; a later format must go on reading them."""
    old = Path(__file__).parent / "data" / f"format-{version}"
    index = es.open(shutil.copytree(old, tmp_path / "index"), verify=True)
    assert index.info()["format_version"] == version and len(index) == 12 and index.dim == 3
    x = (np.arange(48, dtype=np.float32).reshape(12, 4) % 7 - 3)[5]
    hits = index.search(vector=x, k=1)
    assert hits[0].id == "item-5" and hits[0].metadata == {"n": 5, "name": "n5"}
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert [hit.id for hit in index.search(vector=x, k=3, where="n < 3")] and len(index.similar("item-5", k=20)) == 11
