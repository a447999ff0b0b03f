"""Files that were made to do harm: nothing that they name is run, imported or changed."""

import builtins
import contextlib
import copyreg
import os
import pickle
import struct
import sys
from collections import OrderedDict

import pytest
import torch
from pickles import Reduced, call, legacy, zipped
from torch import nn

from embedsearch.backbones.files import inert_pickle
from embedsearch.backbones.files.inert_names import Stub
from embedsearch.backbones.files.module_file import read_inert
from embedsearch.backbones.files.weights import read_weights
from embedsearch.errors import WeightsError

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


def test_torch_itself_would_run_these_files(tmp_path):
    for wrap in (zipped, legacy):
        torch.load(wrap(tmp_path / "evil.pt", call("os", "system", f"touch {tmp_path / 'trace'}")), weights_only=False)
        assert (tmp_path / "trace").exists()
        (tmp_path / "trace").unlink()


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


def test_no_name_outside_the_list_has_a_meaning():
    """Every builtin, and the neighbours of the names that mean something."""
    for name in dir(builtins):
        if name != "set":
            assert isinstance(inert_pickle.meaning(f"builtins.{name}"), Stub)
    for name in ("torch.load", "torch._utils._import_dotted_name", "torch.hub.load", "collections.namedtuple",
                 "collections.OrderedDict.__reduce__", "torch._utils._rebuild_tensor_v2.__globals__"):  # fmt: skip
        assert isinstance(inert_pickle.meaning(name), Stub)
    assert not callable(Stub("x"))
