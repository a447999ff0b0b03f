"""Going on, bringing up to date, replacing, refusing: everything that a build finds in its folder."""

import errno
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from builds import VGG, skipped

import embedsearch as es
from embedsearch.artifact import Layout, write_lock
from embedsearch.engine.building import build_with_report
from embedsearch.errors import (
    ArtifactError,
    ContradictionError,
    EmbedSearchError,
    LockedError,
    SourceError,
    UnfinishedBuildError,
    UsageError,
)
from embedsearch.store import StoreWriter


def test_the_same_command_again_brings_the_index_in_line_with_its_source(folder, tmp_path, emoji):
    out = tmp_path / "index"
    build_with_report(folder, out, **VGG)
    first = es.open(out)
    again = build_with_report(folder, out, **VGG)
    assert again.up_to_date and again.n_known == 10 and es.open(out).info()["generation"] == 1
    names = sorted(path.name for path in folder.iterdir())
    (folder / names[0]).unlink()
    shutil.copy(emoji["google"][40], folder / names[1])  # other content under a known name
    shutil.copy(emoji["google"][41], folder / "new.png")
    report = build_with_report(folder, out, **VGG)
    assert (report.n_new, report.n_known, report.n_removed, report.n_items) == (2, 8, 1, 10)
    second = es.open(out)
    fresh = es.build(folder, tmp_path / "fresh", **VGG)
    assert sorted(second.ids) == sorted(fresh.ids) and names[0] not in second.ids
    np.testing.assert_allclose(second.vectors(fresh.ids), fresh.vectors(fresh.ids), atol=1e-6)
    assert second.info()["generation"] == 2 and second.search(emoji["google"][40], k=1)[0].id == names[1]
    assert first.search(folder / names[2], k=1)[0].id == names[2] and len(first) == 10, "readers keep their generation"
    np.testing.assert_array_equal(first.vectors([names[0]]).shape, (1, 512))


def test_whitening_is_fitted_once_and_kept(folder, tmp_path, emoji):
    out = tmp_path / "index"
    index = es.build(folder, out, whiten=4, **VGG)
    assert index.dim == 4 and index.vectors(index.ids).shape == (10, 4)
    assert index.search(sorted(folder.iterdir())[5], k=1)[0].score == pytest.approx(1, abs=1e-4)
    before = index.vectors(index.ids)
    shutil.copy(emoji["google"][50], folder / "new.png")
    again = es.build(folder, out, whiten=4, **VGG)
    np.testing.assert_allclose(again.vectors(index.ids), before, atol=1e-6)
    assert again.search(emoji["google"][50], k=1)[0].id == "new.png" and not Layout(out).pooled.exists()


def test_too_many_dimensions_are_told_before_or_without_losing_what_was_extracted(folder, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="pca 600: the vectors have 512"):
        es.build(folder, tmp_path / "a", pca=600, **VGG)
    with pytest.raises(UsageError, match="whiten 50: .*at most 9"):
        es.build(folder, tmp_path / "b", whiten=50, **VGG)
    report = build_with_report(folder, tmp_path / "b", pca=9, **VGG)
    assert report.n_new == 0 and report.n_known == 10 and es.open(tmp_path / "b").dim == 9


def test_another_recipe_or_source_needs_a_word(folder, tmp_path):
    out = tmp_path / "index"
    es.build(folder, out, **VGG)
    with pytest.raises(ContradictionError, match="pooling: 'rmac', now 'gem'.*--restart"):
        es.build(folder, out, pooling="gem", **VGG)
    with pytest.raises(ContradictionError, match="source"):
        es.build(str(folder) + "/*.png", out, **VGG)
    old = es.open(out)
    new = es.build(folder, out, pooling="gem", restart=True, whiten=3, **VGG)
    assert new.info()["recipe"]["pooling"] == "gem" and new.info()["generation"] == 2
    assert old.vectors(old.ids).shape == (10, 512), "readers of the generation before go on"
    es.build(folder, out, pooling="max", restart=True, **VGG)
    assert len(list(out.glob("index-*.faiss"))) == 2


def test_a_known_input_that_can_no_longer_be_read_answers_no_more(folder, tmp_path):
    out = tmp_path / "index"
    es.build(folder, out, **VGG)
    name = sorted(path.name for path in folder.iterdir())[4]
    (folder / name).write_bytes(b"damaged")
    report = build_with_report(folder, out, **VGG)
    assert (report.n_removed, report.n_items) == (1, 9) and name not in es.open(out).ids and name in skipped(out)


def test_an_emptied_source_costs_nothing(folder, tmp_path):
    out = tmp_path / "index"
    es.build(folder, out, **VGG)
    folder.rename(tmp_path / "away")
    folder.mkdir()
    with pytest.raises(SourceError, match="holds no images"):
        es.build(folder, out, **VGG)
    assert len(es.open(out)) == 10
    folder.rmdir()
    (tmp_path / "away").rename(folder)
    assert build_with_report(folder, out, **VGG).up_to_date


def test_an_emptied_file_of_texts_or_table_costs_nothing(tmp_path):
    for name, full, empty in (("t.txt", "a cat\na dog\n", ""), ("t.csv", "id,text\nx,a cat\n", "id,text\n")):
        (tmp_path / name).write_text(full)
        out = tmp_path / f"{name}-index"
        index = es.build(tmp_path / name, out)
        n = len(index)
        (tmp_path / name).write_text(empty)
        with pytest.raises(
            SourceError, match=r"holds no texts; .* keeps \d items? of it.*embedsearch delete .*added_from IS NULL"
        ):
            es.build(tmp_path / name, out)
        assert len(es.open(out)) == n and index.delete(where="added_from IS NULL").n_items == 0


def test_an_emptied_matrix_costs_nothing(tmp_path):
    x = np.random.default_rng(2).normal(size=(40, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    out = tmp_path / "index"
    index = es.build(tmp_path / "x.npy", out)
    index.add(x[:3], ids=["a", "b", "c"])
    for emptied in (x[:0], np.full((5, 16), np.nan)):
        np.save(tmp_path / "x.npy", emptied)
        with pytest.raises(SourceError, match=r"keeps 40 items of it; .*embedsearch delete .*added_from IS NULL"):
            es.build(tmp_path / "x.npy", out)
        assert len(es.open(out, verify=True)) == 43 and index.add(x[:3], ids=["a", "b", "c"]).up_to_date
    assert index.delete(where="added_from IS NULL").n_items == 3
    np.save(tmp_path / "x.npy", x[:0])
    assert es.build(tmp_path / "x.npy", out).ids == ["a", "b", "c"], "nothing would be lost"
    np.save(tmp_path / "x.npy", x[:2])
    assert len(es.build(tmp_path / "x.npy", out)) == 5
    np.save(tmp_path / "x.npy", x[:0])
    assert len(es.build(tmp_path / "x.npy", out, restart=True)) == 0


def test_a_folder_that_cannot_be_listed_keeps_its_items(folder, tmp_path, monkeypatch):
    import os as system

    out = tmp_path / "index"
    (folder / "sub").mkdir()
    shutil.copy(next(folder.glob("*.png")), folder / "sub" / "x.png")
    es.build(folder, out, **VGG)
    real = system.scandir

    def scandir(path):
        if str(path).endswith("sub"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    monkeypatch.setattr("os.scandir", scandir)
    report = build_with_report(folder, out, **VGG)
    assert report.n_removed == 0 and "sub/x.png" in es.open(out).ids
    assert skipped(out) == {"sub/": "folder cannot be listed: Permission denied"}


def test_a_recipe_that_failed_before_any_row_does_not_block_the_folder(folder, tmp_path):
    out = tmp_path / "index"
    with pytest.raises(UsageError, match="needs a layer of tokens"):
        es.build(folder, out, pooling="cls", **VGG)
    assert len(es.build(folder, out, **VGG)) == 10
    with pytest.raises(UsageError, match="needs a layer of tokens"):
        es.build(folder, out, pooling="cls", restart=True, **VGG)
    with pytest.raises(ContradictionError, match="--restart"):
        es.build(folder, out, pooling="max", **VGG)
    assert build_with_report(folder, out, **VGG).up_to_date


def test_damage_is_never_built_upon(folder, tmp_path, emoji):
    out = tmp_path / "index"
    es.build(folder, out, **VGG)
    data = next((out / "items.lance" / "data").iterdir())
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    shutil.copy(emoji["google"][50], folder / "new.png")
    with pytest.raises(EmbedSearchError, match="is not what was written"):
        es.build(folder, out, **VGG)
    assert len(es.build(folder, out, restart=True, **VGG)) == 11


def test_python_is_told_of_what_was_left_out(tmp_path):
    with pytest.warns(UserWarning, match=r"2 inputs were left out, see .*skipped\.jsonl: 2 x duplicate id"):
        es.build(np.eye(3), tmp_path / "x", ids=["a", "a", "a"])
    (tmp_path / "t.txt").write_text("one\n\n")
    with pytest.warns(UserWarning, match="1 input was left out"):
        es.build(tmp_path / "t.txt", tmp_path / "t")
    assert json.loads((tmp_path / "t" / "skipped.jsonl").read_text())["uri"] == str(tmp_path / "t.txt")


def test_an_index_inside_its_own_source_is_not_part_of_it(folder):
    for _ in range(2):
        report = build_with_report(folder, folder / "index", **VGG)
        assert (report.n_items, report.n_skipped) == (10, 0)


def test_another_family_is_built_without_extracting(folder, tmp_path):
    es.build(folder, tmp_path / "index", **VGG)
    report = build_with_report(folder, tmp_path / "index", index="hnsw", **VGG)
    assert report.n_new == 0 and not report.up_to_date
    assert es.open(tmp_path / "index").info()["index"]["family"] == "hnsw"
    assert build_with_report(folder, tmp_path / "index", **VGG).up_to_date


def test_a_users_own_folder_is_never_written_into(folder, tmp_path):
    with pytest.raises(UsageError, match="not empty and not an index"):
        es.build(folder, folder, **VGG)
    with pytest.raises(UsageError, match="not empty and not an index"):
        es.build(folder, folder, restart=True, **VGG)
    assert len(list(folder.iterdir())) == 10
    other = tmp_path / "other"
    other.mkdir()
    for name in ("manifest.json", "build.json"):  # names that other programs use as well
        (other / name).write_text("{}")
        with pytest.raises(UsageError, match=f"not an index .it holds '{name}'"):
            es.build(folder, other, restart=True, **VGG)
        assert [path.name for path in other.iterdir()] == [name]
        (other / name).unlink()
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        es.build(folder, tmp_path / "file", **VGG)


def test_nothing_to_index_is_an_error_that_says_why(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError, match="holds no images"):
        es.build(tmp_path / "none", tmp_path / "a", **VGG)
    (tmp_path / "none" / "x.png").write_bytes(b"x")
    with pytest.raises(SourceError, match="its only input was left out, because: not a picture"):
        es.build(tmp_path / "none", tmp_path / "a", **VGG)
    with pytest.raises(SourceError, match="does not exist"):
        es.build(tmp_path / "missing", tmp_path / "b", **VGG)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"index": "tree"}, "auto, flat, graph, hnsw, ivf"),
        ({"metric": "hamming"}, "cosine, ip, l2"),
        ({"backbone": "minilm"}, "reads texts"),
        ({"backbone": "vgg"}, "vgg11|vgg16|vgg19"),
        ({"modality": "text", "text_column": "x"}, "not a table"),
        ({"recipe": {"poling": "max"}}, "'poling' is not known"),
        ({"ids": ["a"]}, "go with a matrix"),
        ({"layer": "features.77"}, "did you mean"),
    ],
)
def test_wrong_arguments_are_told_before_anything_is_written(options, message, folder, tmp_path):
    with pytest.raises(UsageError, match=message):
        es.build(folder, tmp_path / "index", **{**({} if "backbone" in options else VGG), **options})
    assert not (tmp_path / "index").exists() or not any((tmp_path / "index").glob("*.lance"))


def test_vectors_take_no_network(tmp_path):
    with pytest.raises(UsageError, match="'pooling' is for pictures and texts"):
        es.build(np.eye(3), tmp_path / "x", pooling="max")


def test_one_writer_at_a_time_and_a_dead_one_holds_nothing(folder, tmp_path):
    out = tmp_path / "index"
    out.mkdir()
    with write_lock(out), pytest.raises(LockedError, match="another process"):
        es.build(folder, out, **VGG)
    holder = (
        "import sys, os, signal; from pathlib import Path; from embedsearch.artifact import write_lock\n"
        f"lock = write_lock(Path({str(out)!r})); lock.__enter__(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(LockedError):
            es.build(folder, out, **VGG)
        process.kill()
    assert len(es.build(folder, out, **VGG)) == 10


def test_a_full_disk_is_told_and_the_build_goes_on_afterwards(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("embedsearch.pipeline.extract.SHARD_SIZES", {"image": 4, "text": 4, "vector": 4})
    out, real, calls = tmp_path / "index", StoreWriter.write, []

    def full(self, table):
        calls.append(len(table))
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, table)

    monkeypatch.setattr(StoreWriter, "write", full)
    with pytest.raises(OSError, match="No space left"):
        es.build(folder, out, **VGG)
    with pytest.raises(UnfinishedBuildError, match="run its build command again"):
        es.open(out)
    monkeypatch.setattr(StoreWriter, "write", real)
    report = build_with_report(folder, out, **VGG)
    assert report.resumed and (report.n_known, report.n_new) == (8, 2) and len(es.open(out)) == 10


def test_a_really_full_disk(folder, tmp_path):
    """The same with the system's own error, by a limit on the size of files."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
        "from embedsearch.cli.main import run; run(sys.argv[2:])"
    )
    out = tmp_path / "index"
    arguments = ["build", str(folder), "--out", str(out), "--weights", "packaged", "--size", "64"]
    for limit in (16_000, 20_600):  # the store does not fit, then the index does not
        done = subprocess.run([sys.executable, "-c", code, str(limit), *arguments], capture_output=True, text=True)
        assert done.returncode == 1, done.stderr
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: "), done.stderr
        with pytest.raises(ArtifactError):
            es.open(out)
    assert len(es.build(folder, out, **VGG)) == 10


def test_weights_that_moved_are_found_where_one_says_and_only_the_same_ones(folder, tmp_path, monkeypatch):
    import torch
    import torchvision.models as models
    from safetensors.torch import save_file

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    for name in ("a", "b"):
        save_file(models.resnet18(weights=None).state_dict(), f"{name}.safetensors")
    es.build(folder, "index", backbone="resnet18", weights="a.safetensors", size=32)
    query = next(folder.iterdir())
    monkeypatch.chdir("/")
    assert es.open(tmp_path / "index").search(query, k=1)[0].id == query.name, "the path was kept whole"
    (tmp_path / "a.safetensors").rename(tmp_path / "moved.safetensors")
    with pytest.raises(EmbedSearchError, match="do not exist"):
        es.open(tmp_path / "index").search(query)
    found = es.open(tmp_path / "index", weights=tmp_path / "moved.safetensors").search(query, k=1)
    assert found[0].score == pytest.approx(1, abs=1e-5)
    with pytest.raises(ContradictionError, match="sha256"):
        es.open(tmp_path / "index", weights=tmp_path / "b.safetensors").search(query)


@pytest.mark.parametrize("projected", [{}, {"pca": 4}])
def test_a_matrix_of_another_width_is_refused_and_the_index_stays(tmp_path, projected):
    x = np.random.default_rng(2).normal(size=(40, 16)).astype(np.float32)
    index = es.build(x, tmp_path / "x", **projected)
    with pytest.raises(ContradictionError, match=r"vectors of 16 dimensions, .* has 12.*--restart"):
        es.build(x[:, :12], tmp_path / "x", **projected)
    assert [hit.id for hit in es.open(tmp_path / "x").similar("7", k=3)] == [hit.id for hit in index.similar("7", k=3)]
    assert len(es.build(x[:, :12], tmp_path / "x", restart=True, **projected)) == 40
