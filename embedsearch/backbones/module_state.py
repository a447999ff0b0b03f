"""What can be done with a module that somebody else owns without leaving a trace."""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from embedsearch.errors import WeightsError

_locks: WeakKeyDictionary[nn.Module, threading.Lock] = WeakKeyDictionary()
_locks_guard = threading.Lock()


def lock_of(module: nn.Module) -> threading.Lock:
    """The one lock of a module: its hooks and flags are shared by everybody who runs it."""
    with _locks_guard:
        return _locks.setdefault(module, threading.Lock())


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Every submodule in evaluation mode, and as it was when the block ends or raises.

    The flags are set, `eval()` is not called: modules that override it may do more than set a flag.
    """
    before = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in before:
            part.training = False
        yield
    finally:
        for part, training in before:
            part.training = training


def meta_copy(module: nn.Module) -> nn.Module:
    """A copy of `module` in evaluation mode on the meta device: the same structure, no numbers, no hooks.

    Raises what a deep copy raises, where something in the module cannot be copied.
    """
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    for buffer in module.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    clone = copy.deepcopy(module, memo)
    for part in clone.modules():
        part.training = False
        for hooks in (part._forward_hooks, part._forward_pre_hooks):
            hooks.clear()
    return clone


def forget(module: nn.Module, names: Iterable[str]) -> None:
    """Takes away the parameters of these names, which hold no weights of anybody's, so that reaching one
    is an error and no random number becomes part of a vector."""
    for name in names:
        owner, _, leaf = name.rpartition(".")
        parameters = module.get_submodule(owner)._parameters
        parameter = parameters.get(leaf)
        if parameter is not None:
            parameters[leaf] = nn.Parameter(parameter.to("meta"), requires_grad=False)


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """The sha256 of names, types, shapes and bytes: the same wherever the tensors were read from."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        if tensor.numel():
            digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def absent_tensors(module: nn.Module) -> list[str]:
    """Names of the parameters and buffers for which no weights were loaded."""
    tensors = [*module.named_parameters(), *module.named_buffers()]
    return [name for name, tensor in tensors if tensor.is_meta]


@contextmanager
def reach_told(module: nn.Module, origin: str, layer: str) -> Iterator[None]:
    """Turns the error of an operation on weights that were never loaded into a WeightsError that says so."""
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if "meta" in str(error) and absent_tensors(module):
            raise out_of_reach(module, origin, layer) from error
        raise


def out_of_reach(module: nn.Module, origin: str, layer: str) -> WeightsError:
    """The error for a layer above the weights that were loaded."""
    absent = absent_tensors(module)
    return WeightsError(
        f"the weights ({origin}) do not reach layer {layer!r}: they lack {absent[0]!r} and {len(absent) - 1} more; "
        "choose a layer below it, or give complete weights with --weights PATH"
    )
