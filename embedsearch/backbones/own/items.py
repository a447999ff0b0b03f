"""Items as a user's own network takes them: tensors without a batch axis, alone or several."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from embedsearch.backbones.tap import Inputs
from embedsearch.errors import ItemError


def as_inputs(value: Any, dtype: torch.dtype | None, device: torch.device) -> Inputs:
    """One item as what a module is called with.

    value: a tensor or array; a tuple of them for several positional arguments; a mapping for named
    ones. dtype: of floating numbers. Raises ItemError when it holds something else.
    """

    def leaf(part: Any) -> Any:
        tensor = as_tensor(part)
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    if isinstance(value, Mapping):
        return Inputs(kwargs={str(name): leaf(part) for name, part in value.items()})
    if isinstance(value, tuple):
        return Inputs(tuple(leaf(part) for part in value))
    return Inputs((leaf(value),))


def as_tensor(part: Any) -> torch.Tensor:
    """Numbers as a tensor. Raises ItemError with the type of what is none."""
    if isinstance(part, torch.Tensor):
        return part.detach()
    try:
        if isinstance(part, list) and any(isinstance(entry, torch.Tensor) for entry in part):
            return torch.stack([as_tensor(entry) for entry in part])
        array = np.asarray(part)
        if array.dtype == object or array.dtype.kind not in "biufc":
            raise TypeError(f"{type(part).__name__} of {array.dtype}")
        # torch takes no foreign byte order, no negative steps, and what is read only with a warning
        return torch.as_tensor(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    except (TypeError, ValueError, RuntimeError) as error:
        raise ItemError(
            f"an array or tensor of the network's own input shape is needed, not {type(part).__name__}; "
            "give preprocess= that makes one, or modality='image' for pictures"
        ) from error


def signature(inputs: Inputs) -> Hashable:
    """What must be the same for items to go into one batch: names, shapes and types."""
    parts = [*enumerate(inputs.args), *sorted(inputs.kwargs.items())]
    return tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in parts)


def stack(items: Sequence[Inputs], batch_axis: int = 0) -> Inputs:
    """Items of one signature as a batch."""
    return combine(items, lambda parts: torch.stack(list(parts), min(batch_axis, parts[0].ndim)))


def combine(items: Sequence[Inputs], join: Callable[[Sequence[torch.Tensor]], torch.Tensor]) -> Inputs:
    """The arguments of several calls joined to those of one."""
    args = tuple(join(parts) for parts in zip(*(item.args for item in items), strict=True))
    return Inputs(args, {name: join([item.kwargs[name] for item in items]) for name in items[0].kwargs})
