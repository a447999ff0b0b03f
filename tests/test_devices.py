"""Several devices, one process each; a GPU, where there is one."""

import numpy as np
import pytest
import torch

import embedsearch as es
from embedsearch.backbones import devices_of
from embedsearch.engine.building import build_with_report
from embedsearch.executors import ProcessExecutor
from embedsearch.pipeline import extract
from embedsearch.types import Modality

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU HERE: passes on CUDA were not tested")


class Double:
    def __call__(self, task):
        if task < 0:
            raise ValueError(f"negative: {task}")
        return 2 * task


def test_processes_give_results_in_the_order_of_tasks():
    assert list(ProcessExecutor([Double, Double]).map(iter(range(9)))) == [2 * i for i in range(9)]


def test_an_error_in_a_process_is_raised_here():
    results = ProcessExecutor([Double, Double]).map(iter([1, 2, -3, 4]))
    with pytest.raises(ValueError, match="negative: -3"):
        list(results)


@pytest.mark.parametrize(
    ("name", "n_gpus", "devices"),
    [
        ("auto", 0, ["auto"]),
        ("cuda", 1, ["cuda"]),
        ("cuda", 2, ["cuda:0", "cuda:1"]),
        ("auto", 2, ["cuda:0", "cuda:1"]),
        ("cuda:1", 2, ["cuda:1"]),
        ("cuda:0, cuda:3", 4, ["cuda:0", "cuda:3"]),
    ],
)
def test_which_devices_a_name_stands_for(monkeypatch, name, n_gpus, devices):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_gpus)
    assert devices_of(name) == devices


def test_a_build_on_two_devices_is_that_on_one(tmp_path, emoji, monkeypatch):
    monkeypatch.setitem(extract.SHARD_SIZES, Modality.IMAGE, 5)
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in emoji["google"][:13]:
        (folder / path.name).symlink_to(path)
    (folder / "bad.png").write_bytes(b"x")
    options = {"weights": "packaged", "size": 64, "whiten": 4}
    one = build_with_report(folder, tmp_path / "one", **options)
    two = build_with_report(folder, tmp_path / "two", device="cpu,cpu", **options)
    assert (two.n_new, two.n_skipped, two.reasons) == (one.n_new, one.n_skipped, one.reasons) == (13, 1, one.reasons)
    assert two.timing is not None and two.timing.limit == "network"
    a, b = es.open(tmp_path / "one"), es.open(tmp_path / "two")
    assert a.ids == b.ids
    np.testing.assert_allclose(a.vectors(a.ids), b.vectors(a.ids), atol=1e-4)


@needs_gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_gpu_gives_the_vectors_of_the_cpu(emoji, precision):
    options = {"weights": "packaged", "size": 64, "precision": precision}
    on_gpu = es.Encoder("vgg16", device="cuda", **options).encode(emoji["google"][:20])
    exact = es.Encoder("vgg16", device="cpu", weights="packaged", size=64, precision="float32").encode(
        emoji["google"][:20]
    )
    assert (on_gpu * exact).sum(axis=1).min() > (0.99999 if precision == "float32" else 0.999)
    texts = ["a large dog", "why", "an old church by the river"]
    on_gpu = es.Encoder("minilm", device="cuda", precision=precision).encode(texts)
    exact = es.Encoder("minilm", device="cpu", precision="float32").encode(texts)
    assert (on_gpu * exact).sum(axis=1).min() > (0.99999 if precision == "float32" else 0.999)
