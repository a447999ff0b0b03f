"""What can be done with a module that somebody else owns without leaving a trace."""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from embedsearch.backbones.outputs import tensors_in
from embedsearch.errors import UsageError, WeightsError

_locks: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()
_locks_guard = threading.Lock()


@contextmanager
def alone_with(module: nn.Module) -> Iterator[None]:
    """No other thread is in such a block with the same module, or with one that shares a part of it: hooks
    and flags are shared by everybody who runs it."""
    with _locks_guard:
        locks = {id(part): _locks.setdefault(part, threading.RLock()) for part in module.modules()}
    with ExitStack() as stack:
        for key in sorted(locks):  # all in one order, so that no two threads wait for one another
            stack.enter_context(locks[key])
        yield


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Every submodule in evaluation mode; its flags and buffers are as they were when the block ends or raises.

    The flags are set, `eval()` is not called: modules that override it may do more than set a flag.
    """
    flags = [(part, part.training) for part in module.modules()]
    buffers = [(part, dict(part._buffers)) for part, _ in flags if part._buffers]
    # a forward pass may count its calls, or average what it sees, in a buffer
    values = {
        id(tensor): (tensor, tensor.detach().clone())
        for _, own in buffers
        for tensor in own.values()
        if tensor is not None and tensor.layout is torch.strided and not (tensor.is_meta or tensor.is_inference())
    }
    try:
        for part, _ in flags:
            part.training = False
        yield
    finally:
        for part, training in flags:
            part.training = training
        for part, own in buffers:
            part._buffers.clear()
            part._buffers.update(own)
        with torch.no_grad():
            for tensor, before in values.values():
                if tensor.shape != before.shape:
                    tensor.data = before
                elif not torch.equal(tensor, before):  # not by its version, which .data and numpy do not raise
                    tensor.copy_(before)


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
    """Takes away the parameters and buffers of these names, which hold no weights of anybody's, so that
    reaching one is an error and no random number becomes part of a vector."""
    for name in names:
        owner, _, leaf = name.rpartition(".")
        part = module.get_submodule(owner)
        parameter, buffer = part._parameters.get(leaf), part._buffers.get(leaf)
        if parameter is not None:
            part._parameters[leaf] = nn.Parameter(parameter.to("meta"), requires_grad=False)
        elif buffer is not None:
            part._buffers[leaf] = buffer.to("meta")


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a module, without what is no tensor. Raises UsageError when it has no weights yet."""
    state = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    lazy = [name for name, value in state.items() if is_lazy(value)]
    if lazy:
        raise UsageError(f"{lazy[0]!r} of the network has no shape yet (a lazy layer); run it once on a batch")
    return state


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
def reach_told(absent: Sequence[str], origin: str, layers: Sequence[str]) -> Iterator[None]:
    """Turns an operation on weights that were never loaded into a WeightsError that says so.

    absent: the `absent_tensors` of the network that runs; where there are none, this does nothing.
    """
    try:
        with _NothingFromMeta(absent, origin, layers) if absent else nullcontext():
            yield
    except (RuntimeError, NotImplementedError) as error:
        if "meta" in str(error) and absent:
            raise out_of_reach(absent, origin, layers) from error
        raise


class _NothingFromMeta(TorchFunctionMode):
    """Refuses numbers made from weights that are not there: on the CPU a matrix product or convolution with a
    tensor of the meta device gives what happens to lie in memory, and no error."""

    def __init__(self, absent: Sequence[str], origin: str, layers: Sequence[str]) -> None:
        super().__init__()
        self._told = (absent, origin, layers)

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        numbers = any(not tensor.is_meta for tensor in tensors_in(result))
        if numbers and any(tensor.is_meta for tensor in tensors_in((args, kwargs))):
            raise out_of_reach(*self._told)
        return result


@contextmanager
def no_mixing(module: nn.Module) -> Iterator[None]:
    """Refuses to pass through a norm that knows no statistics but those of the batch it is given: with it, an
    item's vector would depend on its neighbours."""
    names = [
        (name, part)
        for name, part in module.named_modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is None
    ]

    def told(name: str) -> Any:
        def hook(_module: nn.Module, _args: Any) -> None:
            raise UsageError(
                f"layer {name!r} normalises over the batch (track_running_stats=False), so an item's vector would "
                "depend on the others; take a layer before it"
            )

        return hook

    handles = [part.register_forward_pre_hook(told(name)) for name, part in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def out_of_reach(absent: Sequence[str], origin: str, layers: Sequence[str]) -> WeightsError:
    """The error for layers, at least one of which is above the weights that were loaded."""
    names = ", ".join(map(repr, layers))
    told = f"layer {names}" if len(layers) == 1 else f"one of the layers {names}"
    return WeightsError(
        f"the weights ({origin}) do not reach {told}: they lack {absent[0]!r} and {len(absent) - 1} more; "
        "choose a layer below it, or give complete weights with --weights PATH"
    )
