"""The weights of networks of the user's own: from a file, from the code, and none where they lack."""

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import save_file, save_model
from torch import nn
from user_files import conv, write
from user_networks import arrays, equal, unit

import embedsearch as es
from embedsearch.errors import EmbedSearchError, UsageError, WeightsError

pytestmark = pytest.mark.filterwarnings("ignore:.*gives other weights each time:UserWarning")  # most of these do


def test_weights_from_a_file_take_the_place_of_the_factorys(tmp_path, net_file):
    other, items = conv(seed=6), arrays()
    save_file(other.state_dict(), tmp_path / "w.safetensors")
    torch.save(other.state_dict(), tmp_path / "w.pt")
    expected = unit(other[:3](torch.tensor(np.stack(items))).movedim(1, -1))
    for weights in (tmp_path / "w.safetensors", tmp_path / "w.pt"):
        equal(es.Encoder(f"module:{net_file}:make", layer="2", weights=weights).encode(items), expected)
    with pytest.raises(UsageError, match="load them yourself"):
        es.Encoder(conv(), weights=tmp_path / "w.pt")


@pytest.mark.parametrize("missing", ["2.weight", "2.bias", "0.weight"])
def test_no_number_of_the_factory_is_used_where_weights_are_missing(tmp_path, net_file, missing):
    state = {name: tensor for name, tensor in conv(seed=6).state_dict().items() if name != missing}
    save_file(state, tmp_path / "w.safetensors")

    def encode(layer):
        return es.Encoder(f"module:{net_file}:make", layer=layer, weights=tmp_path / "w.safetensors").encode(arrays())

    if missing != "0.weight":
        equal(encode("0"), unit(conv(seed=6)[0](torch.tensor(np.stack(arrays()))).movedim(1, -1)))
        assert encode("1").shape == (5, 4)
    for layer in ("2", None) if missing != "0.weight" else ("0", "2"):
        with pytest.raises(WeightsError, match=f"do not reach layer.*they lack '{missing}'"):
            encode(layer)


def test_a_convolution_of_a_named_network_is_never_run_without_its_weights(tmp_path):
    """Torch gives what lies in memory for one whose weights are on the meta device, and no error."""
    state = torchvision.models.resnet18(weights=None).state_dict()
    del state["layer4.1.conv2.weight"]
    save_file(state, tmp_path / "w.safetensors")
    white = np.full((32, 32, 3), 255, np.uint8)
    for layer, reached in {"layer4.1.conv1": True, "layer4.1.conv2": False, "layer4.1.bn2": False}.items():
        encoder = es.Encoder("resnet18", weights=tmp_path / "w.safetensors", size=32, layer=layer)
        if reached:
            assert encoder.encode([white]).shape == (1, 512)
        else:
            with pytest.raises(WeightsError, match="they lack 'layer4.1.conv2.weight'"):
                encoder.encode([white])


def test_buffers_that_the_weights_lack_are_not_used_either(tmp_path):
    write(
        tmp_path / "net.py",
        """
        import torch
        from torch import nn
        class Hash(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("directions", torch.randn(4, 3))
                self.low = nn.Linear(4, 4)
                self.norm = nn.BatchNorm1d(3)
            def forward(self, x):
                return self.norm(self.low(x) @ self.directions)
        """,
    )
    torch.manual_seed(0)
    low = nn.Linear(4, 4)
    known = {"norm.weight": torch.ones(3), "norm.bias": torch.zeros(3), "norm.running_mean": torch.zeros(3),
             "norm.running_var": torch.ones(3), **{f"low.{k}": v for k, v in low.state_dict().items()}}  # fmt: skip
    save_file(known, tmp_path / "w.safetensors")
    options = {"weights": tmp_path / "w.safetensors"}
    item = arrays(2, (4,))
    equal(es.Encoder(f"module:{tmp_path}/net.py:Hash", layer="low", **options).encode(item),
          unit(low(torch.tensor(np.stack(item)))))  # fmt: skip
    with pytest.raises(WeightsError, match="they lack 'directions'"):
        es.Encoder(f"module:{tmp_path}/net.py:Hash", **options).encode(item)
    # num_batches_tracked, which old files lack, is in no vector
    save_file({**known, "directions": torch.eye(4, 3)}, tmp_path / "w.safetensors")
    assert es.Encoder(f"module:{tmp_path}/net.py:Hash", **options).encode(item).shape == (2, 3)


def test_tied_weights_are_stored_once_and_reach_both_layers(tmp_path):
    write(tmp_path / "net.py", """
        from torch import nn
        def make():
            net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
            net[2].weight = net[0].weight
            return net
    """)  # fmt: skip
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    net[2].weight = net[0].weight
    save_model(net, str(tmp_path / "w.safetensors"))
    items = arrays(3, (4,))
    ours = es.Encoder(f"module:{tmp_path}/net.py:make", weights=tmp_path / "w.safetensors").encode(items)
    equal(ours, unit(net(torch.tensor(np.stack(items)))))


def test_weights_of_another_network_are_refused(tmp_path, net_file):
    save_file(nn.Linear(3, 3).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=r"do not belong to this network: it needs e\.g\. '0.weight'"):
        es.Encoder(f"module:{net_file}:make", weights=tmp_path / "w.safetensors")
    for weights, told in {"packaged": "give a file", str(tmp_path / "none.pt"): "do not exist"}.items():
        with pytest.raises(EmbedSearchError, match=told):
            es.Encoder(f"module:{net_file}:make", weights=weights)


def test_a_module_may_keep_more_than_tensors_in_its_state():
    class Versioned(nn.Linear):
        def get_extra_state(self):
            return {"version": 3}

        def set_extra_state(self, state): ...

    net, items = nn.Sequential(Versioned(4, 3)), arrays(2, (4,))
    equal(es.Encoder(net).encode(items), unit(net(torch.tensor(np.stack(items)))))


def test_random_numbers_that_no_file_keeps_are_warned_of(tmp_path):
    write(tmp_path / "net.py", """
        import torch
        from torch import nn
        class make(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("directions", torch.randn(4, 3), persistent=False)
            def forward(self, x):
                return x @ self.directions
    """)  # fmt: skip
    with pytest.warns(UserWarning, match="other weights each time"):
        es.Encoder(f"module:{tmp_path}/net.py:make")
