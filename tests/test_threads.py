"""Work on several threads: results in order, an end when nobody listens, and torch left as it was."""

import re
import threading
import time

import numpy as np
import pytest
import torch
import torchvision.models as models
from safetensors.torch import save_file
from torch import nn

import embedsearch as es
from embedsearch.backbones.cpu.packed_linear import PackedLinear, pack_linears
from embedsearch.backbones.cpu.threads import passes_apart
from embedsearch.errors import WeightsError
from embedsearch.executors import LocalExecutor, ThreadExecutor
from embedsearch.pipeline import network


@pytest.mark.parametrize("executor", [LocalExecutor(), ThreadExecutor(1), ThreadExecutor(3)])
def test_results_come_in_the_order_of_the_tasks(executor):
    rng = np.random.default_rng(0)

    def work(task):
        time.sleep(0.01 * rng.random())
        return task * 2

    assert list(executor.map(lambda: work, range(30))) == list(range(0, 60, 2))
    assert list(executor.map(lambda: work, [])) == []


def test_no_more_tasks_are_drawn_than_threads_can_be_busy_with():
    drawn = []
    results = ThreadExecutor(2).map(lambda: lambda task: task, (drawn.append(n) or n for n in range(100)))
    for n, result in zip(range(10), results, strict=False):
        assert result == n and len(drawn) <= n + 3
    results.close()
    assert len(drawn) <= 13


def test_a_task_that_raises_ends_it_and_the_others_are_told():
    over = threading.Event()

    def work(task):
        if task == 3:
            raise KeyError("three")
        return task if task < 3 else over.wait(10)

    results = ThreadExecutor(2, over.set).map(lambda: work, range(50))
    with pytest.raises(KeyError, match="three"):
        list(results)
    assert over.is_set()


def test_passes_apart_take_one_thread_each_and_leave_torch_as_it_was():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with passes_apart(3) as pool:
            assert list(pool.map(lambda _: torch.get_num_threads(), range(12))) == [1] * 12
        assert torch.get_num_threads() == 2
        with passes_apart(1) as pool:
            other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            seen: list[int] = []
            other.start()
            other.join()
        assert seen == [2], "threads that begin later are not bound by it"
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("n", [1, 3, 40])
def test_the_number_of_threads_changes_no_vector(threads, n, emoji):
    paths = emoji["google"][:n]
    alone = es.Encoder("vgg16", weights="packaged", size=64, threads=1).encode(paths)
    np.testing.assert_allclose(
        es.Encoder("vgg16", weights="packaged", size=64, threads=threads).encode(paths), alone, atol=1e-5
    )
    texts = [f"{'word ' * (i % 7)}{i}" for i in range(n)]
    alone = es.Encoder("minilm", weights="packaged", threads=1).encode(texts)
    np.testing.assert_allclose(
        es.Encoder("minilm", weights="packaged", threads=threads, batch_size=3).encode(texts), alone, atol=1e-5
    )


def test_several_lists_are_under_way_at_once(monkeypatch, text_encoder):
    """So that one is read while the network is busy with another; the vectors are those of one after the other."""
    texts = [f"text number {i}" for i in range(90)]
    expected = text_encoder.encode(texts)
    monkeypatch.setattr("embedsearch.pipeline.encode._CHUNK", {"text": 10})
    real, at_once, most = network.PooledNetwork.encode, [], []

    def encode(self, *arguments, **options):
        at_once.append(1)
        most.append(len(at_once))
        try:
            return real(self, *arguments, **options)
        finally:
            at_once.pop()

    monkeypatch.setattr(network.PooledNetwork, "encode", encode)
    np.testing.assert_allclose(es.Encoder("minilm", weights="packaged", threads=2).encode(texts), expected, atol=1e-5)
    assert max(most) == 2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_a_packed_linear_is_the_linear(dtype, tolerance, bias):
    torch.manual_seed(0)
    linear = nn.Linear(24, 40, bias=bias).to(dtype).requires_grad_(False)
    packed = PackedLinear(linear)
    for shape in ((24,), (1, 24), (7, 24), (2, 5, 24)):
        x = torch.randn(shape).to(dtype)
        expected = linear.float()(x.float())
        torch.testing.assert_close(packed(x).float(), expected, atol=tolerance, rtol=tolerance)
        linear.to(dtype)


def test_linears_without_weights_or_of_other_kinds_stay():
    class Own(nn.Linear):
        pass

    halved = nn.Linear(4, 4)
    halved.bias = nn.Parameter(torch.empty(4, device="meta"))
    module = nn.Sequential(nn.Linear(4, 4), Own(4, 4), nn.Linear(4, 4, device="meta"), nn.Linear(4, 4).double(), halved)
    module.requires_grad_(False)
    assert pack_linears(module) == 1
    assert [type(part) for part in module] == [PackedLinear, Own, nn.Linear, nn.Linear, nn.Linear]


@pytest.mark.parametrize("layer", ["layer1.0.conv1.weight", "layer1.0.bn2.bias", "fc.bias", "fc.weight"])
def test_weights_that_were_not_loaded_are_missed_in_joined_blocks_too(tmp_path, emoji, layer):
    state = models.get_model("resnet18", weights=None).state_dict()
    del state[layer]
    save_file(state, tmp_path / "partly.safetensors")
    encoder = es.Encoder("resnet18", weights=str(tmp_path / "partly.safetensors"), layer="fc", size=64)
    with pytest.raises(WeightsError, match=re.escape(layer)):
        encoder.encode(emoji["google"][:1])


@pytest.mark.parametrize(
    ("kind", "n_items", "threads", "expected"),
    [("vgg16", 1, 1, {1}), ("vgg16", 9, 1, {1}), ("vgg16", 1, 2, {2}), ("vgg16", 9, 2, {1}),
     ("minilm", 1, 1, {1}), ("minilm", 1, 2, {1}), ("minilm", 99, 2, {1}), ("minilm", 0, 2, {2})],
)  # fmt: skip
def test_a_pass_computes_on_as_many_threads_as_it_may(kind, n_items, threads, expected, emoji, monkeypatch):
    encoder = es.Encoder(kind, weights="packaged", threads=threads, precision="float32")
    real, seen = encoder.backbone.extract, set()

    def extract(batch, layers):
        seen.add(torch.get_num_threads())
        return real(batch, layers)

    monkeypatch.setattr(encoder.backbone, "extract", extract)
    before = torch.get_num_threads()
    texts = [f"text {i}" for i in range(n_items)] if n_items else ["a text that is read in many windows " * 700]
    encoder.encode(emoji["google"][:n_items] if kind == "vgg16" else texts)
    assert seen == expected
    assert torch.get_num_threads() == before
