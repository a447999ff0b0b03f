"""Whole pickled modules: their tensors are read, and nothing that a file names is ever run."""

import builtins
import contextlib
import copyreg
import io
import os
import pickle
import struct
import sys
import tarfile
import types
import warnings
import zipfile
from collections import OrderedDict, defaultdict

import pytest
import torch
from torch import nn

from embedsearch.backbones.files import inert_pickle
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


def save(thing, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes whose source torch cannot find
        torch.save(thing, path, **options)


def same(found, wanted):
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


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


# ---- files that were made to do harm -------------------------------------------------------------------------------


def zipped(path, data, storages=(b"\0" * 16,)):
    """A file in torch's zip format with the opcodes `data`; a storage is 16 bytes unless told."""
    writer = torch._C.PyTorchFileWriter(str(path))
    writer.write_record("data.pkl", data, len(data))
    writer.write_record("byteorder", b"little", 6)
    for number, storage in enumerate(storages):
        writer.write_record(f"data/{number}", storage, len(storage))
    writer.write_end_of_file()
    return path


def legacy(path, data, keys=()):
    number, version = torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION
    parts = [pickle.dumps(part, 2) for part in (number, version, {"little_endian": True})]
    path.write_bytes(b"".join([*parts, data, pickle.dumps(list(keys), 2)]))
    return path


def call(module, name, *args):
    """The opcodes that import a name and call it."""
    pushed = pickle.dumps(args, 2)[2:-1]
    return b"\x80\x02" + f"c{module}\n{name}\n".encode() + pushed + b"R."


class Reduced:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


HARM = """
import pathlib
def leave(word="imported"): pathlib.Path({0!r}).write_text(word)
class Bomb:
    def __new__(cls, *args):
        leave()
        return object.__new__(cls)
    def __setstate__(self, state): leave()
    def __setitem__(self, key, value): leave()
    def append(self, value): leave()
    def extend(self, values): leave()
    @staticmethod
    def out(): leave()
"""


def attacks(trace):
    """Pickles of which each leaves the file `trace` when it is opened freely."""
    code = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    made = b"\x80\x02charm_module\nBomb\n)\x81"
    yield from (
        call("os", "system", f"touch {trace}"),
        call("posix", "system", f"touch {trace}"),
        call("builtins", "eval", code),
        call("__builtin__", "eval", code),
        call("builtins", "exec", code),
        call("subprocess", "getoutput", f"touch {trace}"),
        call("torch._utils", "_import_dotted_name", "harm_module.leave"),
        call("harm_module", "Bomb", 1),
        pickle.dumps(Reduced(os.system, (f"touch {trace}",)), 2),
        pickle.dumps(Reduced(os.system, (f"touch {trace}",)), 4),
        b"\x80\x02charm_module\nBomb\n.",  # the import alone
        made + b"}X\x01\x00\x00\x00aK\x01sb.",  # its __setstate__
        made + b"K\x01a.",
        made + b"(K\x01K\x02e.",
        made + b"X\x01\x00\x00\x00kK\x01s.",
        made + b"(X\x01\x00\x00\x00kK\x01u.",
        # dotted names, which reach an attribute, or a module inside a module
        b"\x80\x04\x8c\x0bharm_module\x8c\x08Bomb.out\x93)R.",
        b"\x80\x04\x8c\x09posixpath\x8c\x09os.system\x93" + pickle.dumps((f"touch {trace}",), 2)[2:-1] + b"R.",
        # an attribute of something, called
        b"\x80\x02cbuiltins\ngetattr\ncharm_module\nBomb\nX\x03\x00\x00\x00out\x86R)R.",
        # what older protocols make objects with
        f"(S'touch {trace}'\nios\nsystem\n.".encode(),
        f"(cos\nsystem\nS'touch {trace}'\no.".encode(),
    )


@pytest.mark.parametrize("wrap", [zipped, legacy])
def test_nothing_that_a_file_names_is_run(tmp_path, wrap, monkeypatch):
    trace = tmp_path / "trace"
    (tmp_path / "harm_module.py").write_text(HARM.format(str(trace)) + "\nleave()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for attack in attacks(trace):
        path = wrap(tmp_path / "evil.pt", attack)
        for read in (read_weights, read_inert):
            with contextlib.suppress(WeightsError):  # read_inert gives a stub
                assert isinstance(read(path), Stub)
            assert not trace.exists() and "harm_module" not in sys.modules, attack
        with pytest.raises(WeightsError):
            read_weights(path)
        # the attack is a real one
        pickle.loads(attack)
        assert trace.exists(), attack
        trace.unlink()
        sys.modules.pop("harm_module", None)
        path.unlink()


def test_a_pickle_without_tensors_is_named(tmp_path, capsys):
    save(Reduced(print, ("this code must never run",)), tmp_path / "print.pt")
    with pytest.raises(WeightsError, match=r"hold \w+\.print without tensors, and nothing in it was run"):
        read_weights(tmp_path / "print.pt")
    assert "never run" not in capsys.readouterr().out


def test_torch_itself_would_run_these_files(tmp_path):
    for wrap in (zipped, legacy):
        torch.load(wrap(tmp_path / "evil.pt", call("os", "system", f"touch {tmp_path / 'trace'}")), weights_only=False)
        assert (tmp_path / "trace").exists()
        (tmp_path / "trace").unlink()


def test_harm_beside_tensors_does_not_run_and_the_tensors_are_read(tmp_path, capsys):
    module = nn.Linear(2, 3)
    module.evil = Reduced(print, ("this code must never run",))
    save(module, tmp_path / "m.pt")
    same(read_weights(tmp_path / "m.pt").state, nn.Linear.state_dict(module))
    assert "never run" not in capsys.readouterr().out


def test_a_file_cannot_change_what_its_names_stand_for(tmp_path):
    """BUILD with slots sets attributes of whatever is on the stack, be it a function of torch or a class."""
    rebuild, ordered = torch._utils._rebuild_tensor_v2, vars(OrderedDict).copy()
    before = (rebuild.__defaults__, dict(vars(rebuild)), nn.Parameter.__new__, dict(copyreg._extension_registry))
    slots = pickle.dumps((None, {"__defaults__": (1,), "__new__": 1, "x": 1}), 2)[2:-1]
    names = """torch._utils _rebuild_tensor_v2, torch._utils _rebuild_parameter, collections OrderedDict, torch uint16,
        torch.nn.parameter Parameter, torch FloatStorage, torch.storage UntypedStorage, builtins set, builtins dict,
        embedsearch.backbones.files.inert_names Stub"""
    for name in names.split(","):
        with pytest.raises(WeightsError):
            read_weights(
                zipped(tmp_path / "evil.pt", b"\x80\x02c" + "\n".join(name.split()).encode() + b"\n" + slots + b"b.")
            )
    assert (
        rebuild.__defaults__,
        dict(vars(rebuild)),
        nn.Parameter.__new__,
        dict(copyreg._extension_registry),
    ) == before
    assert vars(OrderedDict) == ordered and not hasattr(torch.UntypedStorage, "x") and not hasattr(Stub, "x")
    assert inert_pickle.meaning("torch._utils._rebuild_tensor_v2").__defaults__ == (None,)


def test_extension_codes_do_not_reach_the_registry(tmp_path):
    """EXT1 would fetch an object that another library registered, past find_class."""
    copyreg.add_extension("os", "system", 240)
    try:
        copyreg._extension_cache[240] = os.system
        command = pickle.dumps((f"touch {tmp_path / 'trace'}",), 2)[2:-1]
        with pytest.raises(WeightsError, match="opcode"):
            read_inert(zipped(tmp_path / "evil.pt", b"\x80\x02\x82\xf0" + command + b"R."))
    finally:
        copyreg.remove_extension("os", "system", 240)
    assert not (tmp_path / "trace").exists()


def storage_id(kind="FloatStorage", key="0", numel=4):
    return (
        b"(" + pickle.dumps("storage", 2)[2:-1] + f"ctorch\n{kind}\n".encode()
        + pickle.dumps(key, 2)[2:-1] + pickle.dumps("cpu", 2)[2:-1] + pickle.dumps(numel, 2)[2:-1] + b"tQ"
    )  # fmt: skip


def tensor_of(storage, offset, size, stride):
    rest = b"".join(pickle.dumps(part, 2)[2:-1] for part in (offset, size, stride, False))
    return b"(" + storage + rest + b"ccollections\nOrderedDict\n)Rt"


def rebuilt(arguments):
    return b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


def test_tensors_lie_inside_their_storage(tmp_path):
    values = struct.pack("<4f", 1, 2, 3, 4)
    good = read_inert(zipped(tmp_path / "a.pt", rebuilt(tensor_of(storage_id(), 1, (3,), (1,))), [values]))
    assert good["w"].tolist() == [2, 3, 4]
    for arguments in (
        tensor_of(storage_id(), 2, (3,), (1,)),
        tensor_of(storage_id(), 0, (2, 3), (3, 1)),
        tensor_of(storage_id(), -1, (2,), (1,)),
        tensor_of(storage_id(), 0, (2,), (-1,)),
        tensor_of(storage_id(), 0, (2**61,), (2**61,)),
        tensor_of(storage_id(), 0, (2,), (1, 1)),
        tensor_of(storage_id(), 0, ("2",), (1,)),
        tensor_of(b"ctorch\nFloatStorage\n", 0, (2,), (1,)),
        tensor_of(b"cx\ny\n)\x81}X\x05\x00\x00\x00dtypectorch\nfloat32\nsb", 0, (2,), (1,)),
        tensor_of(storage_id(kind="device"), 0, (2,), (1,)),
        tensor_of(storage_id(numel=-4), 0, (2,), (1,)),
        tensor_of(storage_id(key="7"), 0, (2,), (1,)),
        tensor_of(storage_id(key="../data.pkl"), 0, (2,), (1,)),
        b"N",
        b"(t",
    ):
        with pytest.raises(WeightsError, match="cannot be read"):
            read_inert(zipped(tmp_path / "b.pt", rebuilt(arguments), [values]))


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


def test_no_name_outside_the_list_has_a_meaning():
    """Every builtin, and the neighbours of the names that mean something."""
    for name in dir(builtins):
        if name != "set":
            assert isinstance(inert_pickle.meaning(f"builtins.{name}"), Stub)
    for name in ("torch.load", "torch._utils._import_dotted_name", "torch.hub.load", "collections.namedtuple",
                 "collections.OrderedDict.__reduce__", "torch._utils._rebuild_tensor_v2.__globals__"):  # fmt: skip
        assert isinstance(inert_pickle.meaning(name), Stub)
    assert not callable(Stub("x"))
