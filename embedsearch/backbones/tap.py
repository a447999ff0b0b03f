"""Running a module only as far as the layers that are asked for, and reading their outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from embedsearch.errors import UsageError


class _Reached(Exception):  # noqa: N818 - a signal, not an error
    """Raised inside the forward pass when the last wanted layer has answered."""


def run_to(module: nn.Module, kwargs: Mapping[str, Any], wanted: Mapping[str, int]) -> dict[str, torch.Tensor]:
    """Outputs of the layers in `wanted`, from one forward pass that ends as soon as all have answered.

    wanted: layer name -> the number of its call that counts (from 1), for modules that a network calls
    several times. Nothing behind the last of them is computed. The hooks are gone when this returns or
    raises. Raises UsageError when a layer is never reached.
    """
    outputs: dict[str, torch.Tensor] = {}
    handles = []
    waiting = dict(wanted)

    def tap(name: str) -> Any:
        n_calls = 0

        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            nonlocal n_calls
            n_calls += 1
            if n_calls != wanted[name]:
                return
            value = first_tensor(output)
            del waiting[name]
            # a later in-place layer (VGG's ReLU) would write into what was read here
            outputs[name] = value.clone() if waiting else value
            if not waiting:
                raise _Reached

        return hook

    try:
        for name in wanted:
            handles.append(module.get_submodule(name).register_forward_hook(tap(name)))
        module(**kwargs)
    except _Reached:
        return outputs
    finally:
        for handle in handles:
            handle.remove()
    raise UsageError(f"layer {next(iter(waiting))!r} is not reached in a forward pass of this network")


def first_tensor(output: Any) -> torch.Tensor:
    """The tensor that a layer's output is about: itself, or the first one in a tuple, dict or dataclass."""
    if isinstance(output, torch.Tensor):
        return output
    if hasattr(output, "last_hidden_state"):
        return first_tensor(output.last_hidden_state)
    parts = output.values() if isinstance(output, Mapping) else output
    if isinstance(output, Mapping | tuple | list):
        for part in parts:
            if isinstance(part, torch.Tensor):
                return part
    raise UsageError(f"the layer gives {type(output).__name__}, in which no tensor is found")
