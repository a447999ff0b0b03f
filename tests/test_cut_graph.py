"""The cut and joined network against a plain pass with hooks, and that nothing else of the network changes."""

import numpy as np
import pytest
import torch
import torchvision.models as models

from embedsearch.backbones import open_backbone
from embedsearch.backbones.cut_graph import FusedConv, HalvedByMax, cut_graph

NETWORKS = {
    "vgg11_bn": ["features.13", "features.11"],  # a ReLU, and the convolution before another
    "resnet18": ["layer2.0", "layer3.1.bn1"],
    "googlenet": ["inception3a", "conv3"],
    "squeezenet1_1": ["features.3", "features.4.squeeze_activation"],
    "densenet121": ["features.denseblock1"],
}


def plain(module, x, layers):
    found, handles = {}, []
    for layer in layers:
        keep = lambda _m, _a, output, layer=layer: found.__setitem__(layer, output.clone())  # noqa: E731
        handles.append(module.get_submodule(layer).register_forward_hook(keep))
    with torch.no_grad():
        module(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.fixture(params=NETWORKS)
def network(request):
    torch.manual_seed(0)
    options = {"init_weights": False} if request.param == "googlenet" else {}
    module = models.get_model(request.param, weights=None, **options).eval()
    for part in module.modules():  # statistics of a trained network are not 0 and 1
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
    return module, NETWORKS[request.param]


def test_joined_steps_give_what_hooks_give(network):
    module, layers = network
    module.requires_grad_(False)
    x = torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)
    expected = plain(module, x, layers)
    with torch.inference_mode():
        graph = cut_graph(module, layers)
        assert graph is not None
        found = graph(x)
    assert any(isinstance(part, FusedConv) for part in graph.modules())
    for layer in layers:
        torch.testing.assert_close(found[layer], expected[layer], rtol=1e-3, atol=1e-4)
    for layer, y in plain(module, x, layers).items():
        assert torch.equal(y, expected[layer])


@pytest.mark.parametrize("size", [(8, 6), (7, 8)])
def test_halving_by_max_is_max_pooling(size, rng):
    x = torch.from_numpy(rng.normal(size=(2, 5, *size)).astype(np.float32))
    assert torch.equal(HalvedByMax()(x), torch.nn.functional.max_pool2d(x, 2, 2))


def test_vgg16_is_joined_when_it_has_seen_some_pictures_and_answers_the_same(rng):
    pictures = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(8)]
    backbone = open_backbone("vgg16", weights="packaged", size=64)
    alone = torch.cat([backbone.extract([picture], ["features.22"])["features.22"].values for picture in pictures[:7]])
    assert backbone._graphs == {}
    together = backbone.extract(pictures, ["features.22"])["features.22"].values
    assert backbone._graphs[("features.22",)] is not None
    torch.testing.assert_close(together[:7], alone, rtol=1e-4, atol=1e-5 * float(alone.max()))


def test_a_network_that_cannot_be_traced_is_run_as_it_is(monkeypatch, rng):
    from embedsearch.backbones import vision

    def fails(module, layers):
        raise RuntimeError("looks at numbers")

    monkeypatch.setattr(vision, "cut_graph", fails)
    backbone = open_backbone("vgg16", weights="packaged", size=64)
    pictures = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(9)]
    assert backbone.extract(pictures, ["features.8"])["features.8"].values.shape == (9, 1024, 128)
    assert backbone._graphs == {("features.8",): None}


def test_pictures_in_bfloat16_are_those_of_float32(emoji):
    import embedsearch as es

    exact = es.Encoder("vgg16", weights="packaged", size=64, precision="float32").encode(emoji["google"][:20])
    rough = es.Encoder("vgg16", weights="packaged", size=64, precision="bfloat16").encode(emoji["google"][:20])
    assert (exact * rough).sum(axis=1).min() > 0.999
