"""Checkpoints that hold more than tensors, such as torch.save(model) writes them, read for their tensors alone."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from embedsearch.backbones.files import inert_pickle
from embedsearch.backbones.files.inert_names import Stub
from embedsearch.errors import WeightsError

# the first of the pickles in torch's older format, its magic number
_LEGACY_START = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"


class _Stream(io.BufferedReader):
    """A file that tells no descriptor: torch then leaves out its oldest format, a tar that it unpacks to disk."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def read_inert(path: Path) -> Any:
    """What torch.save put into `path`, zip or older format, with a `Stub` for all but tensors and plain data.

    Raises WeightsError when torch.save wrote no such file, or it is damaged.
    """
    with _Stream(io.FileIO(path)) as stream:
        start = stream.peek(len(_LEGACY_START))
        zipped = start.startswith(b"PK")
        if not zipped and not start.startswith(_LEGACY_START):
            raise WeightsError(f"weights {path} cannot be read: they are no file of torch.save")
        try:
            if zipped and "constants.pkl" in torch._C.PyTorchFileReader(str(path)).get_all_records():
                # torch.load would hand it to torch.jit, which takes the archive's own code
                raise WeightsError(f"weights {path} are a TorchScript archive; save the module's state_dict() instead")
            return torch.load(
                path if zipped else stream,
                map_location="cpu",
                pickle_module=inert_pickle,
                weights_only=False,  # which would refuse the file; inert_pickle runs nothing of it
                mmap=zipped,  # a mapped storage cannot reach beyond the file
            )
        except WeightsError:
            raise
        except Exception as error:  # damaged or hostile opcodes can raise nearly anything
            raise WeightsError(f"weights {path} cannot be read: {str(error) or type(error).__name__}") from error


def module_tensors(module: Stub) -> dict[str, torch.Tensor]:
    """Parameters and persistent buffers of a pickled module, under the names that its state_dict() would give them.

    Empty for what is no module.
    """
    return dict(_walk(module, "", ()))


def _walk(module: Stub, prefix: str, above: tuple[Stub, ...]) -> Iterator[tuple[str, torch.Tensor]]:
    if any(module is other for other in above):
        return  # a module inside itself, which only a made-up file holds
    passing = module.state.get("_non_persistent_buffers_set")
    left_out = passing if isinstance(passing, set) else ()
    for name, tensor in [*_entries(module, "_parameters"), *_entries(module, "_buffers")]:
        if isinstance(tensor, torch.Tensor) and name not in left_out:
            yield prefix + name, tensor
    for name, child in _entries(module, "_modules"):
        if isinstance(child, Stub):
            yield from _walk(child, f"{prefix}{name}.", (*above, module))


def _entries(module: Stub, kind: str) -> list[tuple[str, Any]]:
    found = module.state.get(kind)
    return [(str(name), value) for name, value in found.items()] if isinstance(found, Mapping) else []
