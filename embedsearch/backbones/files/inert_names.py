"""What the few names stand for that an unpickler may give a meaning: plain containers and tensors.

The makers check their arguments, which come from the file, before torch sees them.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch


class Stub:
    """Stands for a class or function that a file names, and for anything that it would have made.

    origin: the dotted name. state: the attributes that the file gives it.
    """

    __slots__ = ("origin", "state")

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.state: dict[Any, Any] = {}


def require(fits: bool, what: str) -> None:
    if not fits:
        raise pickle.UnpicklingError(f"the file is damaged: {what}")


def _ordered_dict(pairs: Any = ()) -> OrderedDict[Any, Any]:
    require(type(pairs) in (list, tuple), "an OrderedDict of no pairs")
    return OrderedDict(pairs)


def _default_dict(*factory: Any) -> dict[Any, Any]:
    return {}  # its factory is one of the file's names


def _set(items: Any = ()) -> set[Any]:
    require(type(items) in (list, tuple), "a set of no list")
    return set(items)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, _: Any, __: Any, flags: Any = None) -> Any:
    dtype = storage.dtype if type(storage) is torch.storage.TypedStorage else None
    return _tensor_of(storage, offset, size, stride, _, __, dtype, flags)


def _tensor_of(
    storage: Any, offset: Any, size: Any, stride: Any, _: Any, __: Any, dtype: Any, flags: Any = None
) -> Any:
    """A tensor only where it lies inside its storage, which torch would otherwise enlarge; without gradient and hooks.

    flags: the bits for conj and neg.
    """
    require(type(storage) is torch.storage.TypedStorage and type(dtype) is torch.dtype, "a tensor without a storage")
    require(type(size) is tuple and type(stride) is tuple and len(size) == len(stride), "a tensor without a shape")
    numbers = (offset, *size, *stride)
    require(all(type(n) is int and 0 <= n < 2**62 for n in numbers), f"a tensor of shape {size}")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    room = storage._untyped_storage.nbytes() // dtype.itemsize
    require(0 in size or last < room, f"a tensor of shape {size} in a storage of {room} numbers")
    flags = flags or {}
    require(type(flags) is dict, "a tensor's flags")
    require(all(type(key) is str and type(flag) is bool for key, flag in flags.items()), "a tensor's flags")
    rebuild: Callable[..., torch.Tensor] = torch._utils._rebuild_tensor_v3
    return rebuild(storage, offset, size, stride, False, OrderedDict(), dtype, flags)


def _parameter(data: Any, *others: Any) -> Any:
    return data


def _tensor_with_attributes(make: Any, kind: Any, args: Any, state: Any) -> Any:
    known = (make is _tensor or make is _tensor_of) and type(args) is tuple
    return make(*args) if known else Stub("torch.Tensor")


_MAKERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _tensor_with_attributes,
}
_VALUES: dict[str, Any] = {f"torch.{name}": value for name, value in vars(torch).items() if type(value) is torch.dtype}
_VALUES["torch.storage.UntypedStorage"] = torch.UntypedStorage


def meaning(name: str) -> Any:
    """A maker (a function of this file), a dtype or a storage type for the names known here, for all others a Stub."""
    return _MAKERS.get(name) or _VALUES.get(name) or Stub(name)
