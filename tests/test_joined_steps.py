"""Joined steps against a plain pass with hooks, and that names, hooks and answers of a network stay as they were."""

import numpy as np
import pytest
import torch
import torchvision.models as models

from embedsearch.backbones.joined_steps import halved_by_max, join_steps

NETWORKS = {
    "vgg11_bn": ["features.13", "features.11"],  # a ReLU, and the convolution before another
    "vgg11": ["features.10", "features.11", "features.13"],
    "mobilenet_v3_small": ["features.3", "features.5.block.0", "features.6.block.0.1"],
    "squeezenet1_1": ["features.3", "features.4.squeeze_activation"],
    "regnet_y_400mf": ["trunk_output.block2"],
    "resnet18": ["layer2.0.downsample", "layer3.1.bn1"],
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


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("at_once", [True, False])
def test_joined_steps_give_what_plain_ones_give(name, at_once):
    torch.manual_seed(0)
    module = models.get_model(name, weights=None).eval().requires_grad_(False)
    for part in module.modules():  # statistics of a trained network are not 0 and 1
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)
    expected = plain(module, x, NETWORKS[name])
    assert join_steps(module) > 0
    for layers in [NETWORKS[name]] if at_once else [[layer] for layer in NETWORKS[name]]:
        for layer, y in plain(module, x, layers).items():
            torch.testing.assert_close(y, expected[layer], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
def test_halving_by_max_is_max_pooling(size, rng):
    x = torch.from_numpy(rng.normal(size=(2, 5, *size)).astype(np.float32))
    assert torch.equal(halved_by_max(x), torch.nn.functional.max_pool2d(x, 2, 2))


def test_pictures_in_bfloat16_are_those_of_float32(emoji):
    import embedsearch as es

    exact = es.Encoder("vgg16", weights="packaged", size=64, precision="float32").encode(emoji["google"][:20])
    rough = es.Encoder("vgg16", weights="packaged", size=64, precision="bfloat16").encode(emoji["google"][:20])
    assert (exact * rough).sum(axis=1).min() > 0.999
