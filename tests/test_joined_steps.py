"""Joined steps against a plain pass with hooks, and that names, hooks and answers of a network stay as they were."""

import numpy as np
import pytest
import torch
import torchvision.models as models

from embedsearch.backbones.cpu.joined_blocks import join_blocks
from embedsearch.backbones.cpu.joined_steps import halved_by_max, join_steps
from embedsearch.backbones.cpu.packed_linear import pack_linears

NETWORKS = {
    "vgg11_bn": ["features.13", "features.11"],  # a ReLU, and the convolution before another
    "vgg11": ["features.10", "features.11", "features.13"],
    "mobilenet_v3_small": ["features.3", "features.5.block.0", "features.6.block.0.1"],
    "squeezenet1_1": ["features.3", "features.4.squeeze_activation"],
    "regnet_y_400mf": ["trunk_output.block2"],
    "resnet18": ["layer2.0.downsample", "layer3.1.bn1", "layer3.1", "layer4.0.relu", "maxpool"],
    "resnet50": ["bn1", "layer1.0.conv3", "layer2.1", "layer4.2.bn3", "fc"],
    "densenet121": ["features.denseblock1.denselayer3.norm2", "features.denseblock2", "features.denseblock4"],
    "googlenet": ["inception3a", "inception4a.branch2.1.conv", "inception5b"],
    "mobilenet_v2": ["features.2.conv.0.1", "features.6", "features.18"],
    "efficientnet_b0": ["features.2.0.block.0", "features.3", "features.8.1"],
    "convnext_tiny": ["features.1.0.block.3", "features.3.1", "features.7"],
    "swin_t": ["features.1.1.mlp.1", "features.3.1.mlp.3", "features.5"],
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


def network(name):
    options = {"init_weights": True} if name == "googlenet" else {}
    module = models.get_model(name, weights=None, **options).eval().requires_grad_(False)
    for part in module.modules():  # statistics of a trained network are not 0 and 1
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 2)
    return module


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("at_once", [True, False])
def test_joined_steps_give_what_plain_ones_give(name, at_once):
    torch.manual_seed(0)
    module = network(name)
    x = torch.randn(2, 3, 64, 64).to(memory_format=torch.channels_last)
    expected = plain(module, x, NETWORKS[name])
    pack_linears(module)
    assert join_blocks(module) + join_steps(module) > 0
    for layers in [NETWORKS[name]] if at_once else [[layer] for layer in NETWORKS[name]]:
        for layer, y in plain(module, x, layers).items():
            torch.testing.assert_close(y, expected[layer], rtol=1e-3, atol=1e-4)


def test_weights_ordered_for_the_first_pass_suit_maps_and_batches_of_others():
    torch.manual_seed(0)
    module = network("resnet18")
    sizes = [(2, 64, 64), (1, 64, 64), (3, 50, 97), (2, 160, 160)]
    inputs = [torch.randn(n, 3, *side).to(memory_format=torch.channels_last) for n, *side in sizes]
    expected = [plain(module, x, ["layer4"])["layer4"] for x in inputs]
    assert join_blocks(module) == 9  # eight blocks, and what is before them
    for x, y in zip(inputs, expected, strict=True):
        torch.testing.assert_close(plain(module, x, ["layer4"])["layer4"], y, rtol=1e-3, atol=1e-4)


def test_packed_linears_are_linears():
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.GELU("tanh"), torch.nn.Linear(5, 3, bias=False))
    module.requires_grad_(False)
    x = torch.randn(2, 4, 7)
    expected = module(x)
    weights = [module[0].weight, module[2].weight]
    assert pack_linears(module) == 2
    assert join_steps(module) == 1
    torch.testing.assert_close(module(x), expected)
    assert [module[0].weight, module[2].weight] == weights


@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
def test_halving_by_max_is_max_pooling(size, rng):
    x = torch.from_numpy(rng.normal(size=(2, 5, *size)).astype(np.float32))
    assert torch.equal(halved_by_max(x), torch.nn.functional.max_pool2d(x, 2, 2))


def test_pictures_in_bfloat16_are_those_of_float32(emoji):
    import embedsearch as es

    exact = es.Encoder("vgg16", weights="packaged", size=64, precision="float32").encode(emoji["google"][:20])
    rough = es.Encoder("vgg16", weights="packaged", size=64, precision="bfloat16").encode(emoji["google"][:20])
    assert (exact * rough).sum(axis=1).min() > 0.999
