"""What the tests of networks of the user's own share: small ones, and what plain torch finds in them."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    """A forward pass given as a function of the module and its inputs."""

    def __init__(self, run, **parts):
        super().__init__()
        self._run = run
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *args, **kwargs):
        return self._run(self, *args, **kwargs)


def cnn():
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 5, 3), nn.SiLU()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 6),
    )  # fmt: skip
    net(torch.randn(8, 3, 9, 9))  # running statistics that are not those of a fresh network
    return net


def arrays(n=5, shape=(3, 8, 8), seed=0):
    return list(np.random.default_rng(seed).normal(size=(n, *shape)).astype(np.float32))


def hooked(net, layer, *batch, **named):
    """What a plain forward hook sees of a layer: the outputs of all its calls."""
    seen = []
    clone = copy.deepcopy(net).eval()
    clone.get_submodule(layer).register_forward_hook(lambda m, a, out: seen.append(copy.deepcopy(out)))
    with torch.no_grad():
        clone(*batch, **named)
    return seen


def unit(x):
    """B x ... x C as places, pooled by hand."""
    x = x.detach().float().flatten(1, -2).mean(dim=1) if x.ndim > 2 else x.detach().float()
    return (x / x.norm(dim=1, keepdim=True)).numpy()


def places(x):
    return x.movedim(1, -1) if x.ndim > 3 else x


def equal(ours, theirs):
    assert ours.shape == theirs.shape and ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def snapshot(net):
    """All that a caller may find changed in a module."""
    parts = list(net.modules())
    return {
        "parts": [id(part) for part in parts],
        "training": [part.training for part in parts],
        "attributes": [sorted(vars(part)) for part in parts],
        "hooks": [
            [list(vars(part)[name].items()) for name in sorted(vars(part)) if name.endswith("_hooks")] for part in parts
        ],
        "parameters": [(n, id(p), p.data_ptr(), p.requires_grad, p.device, p.dtype) for n, p in net.named_parameters()],
        "values": {n: (t.clone(), t._version) for n, t in net.state_dict().items()},
        "grad": torch.is_grad_enabled(),
    }


def unchanged(net, before):
    after = snapshot(net)
    for name, (tensor, _) in before.pop("values").items():
        assert torch.equal(tensor, after["values"][name][0]), name
    after.pop("values")
    assert after == before
