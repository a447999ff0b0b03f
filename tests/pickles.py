"""What the tests of pickled modules share: files made by torch, and by hand from opcodes."""

from __future__ import annotations

import pickle
import warnings

import torch


def save(thing, path, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes whose source torch cannot find
        torch.save(thing, path, **options)


def same(found, wanted):
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name


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
