"""Whole pickled modules: their tensors are read, and nothing that a file names is ever run."""

import io
import pickle
import sys
import tarfile
import types
import warnings
import zipfile
from collections import defaultdict

import pytest
import torch
from pickles import Reduced, call, legacy, same, save, zipped
from torch import nn

from embedsearch.backbones.files.inert_names import Stub
from embedsearch.backbones.files.module_file import module_tensors, read_inert
from embedsearch.backbones.files.weights import read_weights
from embedsearch.errors import WeightsError

SOURCE = """
import torch
from torch import nn

class Bag(list):
    pass

class Table(dict):
    pass

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.item_embedding = nn.Embedding(10, 4)
        self.block = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.low = nn.Parameter(torch.randn(3, 2).bfloat16())
        self.tied = self.item_embedding
        self.noted = nn.Parameter(torch.randn(2, 2))
        self.noted.note = "an attribute"
        self.turned = nn.Parameter(torch.randn(5, 3).t())
        self.register_buffer("count", torch.arange(3))
        self.register_buffer("scratch", torch.ones(2), persistent=False)
        self.things, self.table, self.pair = Bag([1, self.block]), Table(a=1), (torch.device("cuda", 0), torch.float16)
        self.act, self.names = torch.nn.functional.relu, {"a", "b"}
        self.method = self.forward
        self.register_forward_hook(print)
"""


@pytest.fixture
def net():
    """A module of a class whose module is gone when the file is read."""
    module = types.ModuleType("gone_module")
    sys.modules["gone_module"] = module
    exec(SOURCE, module.__dict__)
    yield module.Net()
    sys.modules.pop("gone_module", None)


@pytest.mark.parametrize(
    "options",
    [{}, {"pickle_protocol": 4}, {"pickle_protocol": 5}, {"_use_new_zipfile_serialization": False}],
    ids=["zip", "protocol 4", "protocol 5", "legacy"],
)
def test_a_whole_module_reads_as_its_state_dict(tmp_path, net, options):
    save(net, tmp_path / "whole.pt", **options)
    wanted = net.state_dict()
    del sys.modules["gone_module"]
    same(read_weights(tmp_path / "whole.pt").state, wanted)
    assert "gone_module" not in sys.modules


def test_modules_inside_checkpoints_and_data_parallel(tmp_path, net):
    optimiser = torch.optim.Adam(net.parameters()).state_dict()
    save({"model": net, "args": types.SimpleNamespace(lr=1), "optimizer": optimiser}, tmp_path / "a.pt")
    save(nn.DataParallel(net), tmp_path / "b.pt")
    save(
        {"state_dict": net.state_dict(), "args": types.SimpleNamespace(lr=1), "n": defaultdict(int, a=1)},
        tmp_path / "c.pt",
    )
    wanted = net.state_dict()
    del sys.modules["gone_module"]
    for name in "abc":
        same(read_weights(tmp_path / f"{name}.pt").state, wanted)


def test_new_dtypes_and_shared_storages(tmp_path):
    module = nn.Module()
    base = torch.arange(12, dtype=torch.float32)
    module.register_buffer("view", base[2:8].view(3, 2))
    module.register_buffer("rows", base.view(4, 3)[:, 1])
    module.register_buffer("one", torch.ones(1).expand(3, 2))
    module.register_buffer("none", torch.zeros(0, 4))
    module.register_buffer("u16", torch.tensor([1, 65535], dtype=torch.uint16))
    module.register_buffer("scalar", torch.tensor(5.0))
    save(module, tmp_path / "m.pt")
    same(module_tensors(read_inert(tmp_path / "m.pt")), module.state_dict())


def test_a_module_inside_itself_ends():
    stub = Stub("x.Y")
    stub.state.update(_parameters={"w": torch.ones(1)}, _modules={"me": stub, "text": "no module"})
    assert list(module_tensors(stub)) == ["w"]


def test_a_pickle_without_tensors_is_named(tmp_path, capsys):
    save(Reduced(print, ("this code must never run",)), tmp_path / "print.pt")
    with pytest.raises(WeightsError, match=r"hold \w+\.print without tensors, and nothing in it was run"):
        read_weights(tmp_path / "print.pt")
    assert "never run" not in capsys.readouterr().out


def test_harm_beside_tensors_does_not_run_and_the_tensors_are_read(tmp_path, capsys):
    module = nn.Linear(2, 3)
    module.evil = Reduced(print, ("this code must never run",))
    save(module, tmp_path / "m.pt")
    same(read_weights(tmp_path / "m.pt").state, nn.Linear.state_dict(module))
    assert "never run" not in capsys.readouterr().out


def test_the_source_beside_a_legacy_class_is_not_compared_or_patched(tmp_path, monkeypatch):
    """torch writes NAME.patch where the source in the file differs and the class says dump_patches."""
    monkeypatch.chdir(tmp_path)
    pid = pickle.dumps("module", 2)[2:-1] + b"ctorch.nn.modules.linear\nLinear\n" + pickle.dumps("f.py", 2)[2:-1]
    data = b"\x80\x02(" + pid + pickle.dumps("another source", 2)[2:-1] + b"tQ)\x81."
    found = read_inert(legacy(tmp_path / "old.pt", data))
    assert isinstance(found, Stub) and found.origin == "torch.nn.modules.linear.Linear"
    assert [path.name for path in tmp_path.iterdir()] == ["old.pt"]


def test_tars_and_torchscript_are_refused(tmp_path):
    """torch unpacks the first to disk, and hands the second to torch.jit."""
    name = torch.serialization.MAGIC_NUMBER.to_bytes(10, "little").decode("latin-1")
    for first in ("storages", "\x80\x02\x8a\n" + name):  # also one that begins as the legacy format does
        with tarfile.open(tmp_path / "t.pt", "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
            for member in (first, "storages", "tensors", "pickle"):
                data = call("os", "system", f"touch {tmp_path / 'trace'}")
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        with pytest.raises(WeightsError):
            read_inert(tmp_path / "t.pt")
        with pytest.raises(WeightsError):
            read_weights(tmp_path / "t.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "s.pt"))
    for read in (read_inert, read_weights):
        with pytest.raises(WeightsError, match="TorchScript"):
            read(tmp_path / "s.pt")
    assert not (tmp_path / "trace").exists()


def test_damaged_files_end_in_one_error(tmp_path, net):
    save(net, tmp_path / "whole.pt")
    save(net, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    for name in ("whole.pt", "old.pt"):
        data = (tmp_path / name).read_bytes()
        for end in (0, 1, 20, 200, len(data) // 2, len(data) - 30):
            (tmp_path / "cut.pt").write_bytes(data[:end])
            with pytest.raises(WeightsError):
                read_weights(tmp_path / "cut.pt")
    hostile = [
        b"",
        b".",
        b"\x80\x02",
        b"\x80\x02R.",
        b"\x80\x02(K\x01K\x02u.",
        b"\x80\x02Nb.",
        b"\x80\x02]K\x01K\x02s.",
    ]
    hostile += [b"\x80\x02h\x05.", b"\x80\x63N.", b"\x80\x02K\x01Q.", b"P1\n.", b"\x80\x04X\x01\x00\x00\x00aK\x01\x93."]
    for opcodes in hostile:
        with pytest.raises(WeightsError):
            read_weights(zipped(tmp_path / "z.pt", opcodes))
    with zipfile.ZipFile(tmp_path / "plain.pt", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(WeightsError):
        read_weights(tmp_path / "plain.pt")
