"""From the name of a user's own code to the network that it makes, with its weights, on its device."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

from torch import nn

from embedsearch.backbones.base import BackboneOptions, open_device
from embedsearch.backbones.files.weights import load_into, own_weights
from embedsearch.backbones.module_state import tensors_of, tensors_sha256
from embedsearch.backbones.own.user_code import importing_for, load_code
from embedsearch.errors import CodeError


def make_network(name: str, options: BackboneOptions) -> tuple[nn.Module, Callable[[Any], Any] | str | None, str]:
    """The network that module:FILE_OR_PACKAGE:FACTORY makes, the preprocess it gives with it or None, and
    where the weights are from.

    A factory is a function, a class, or a module itself; it gives a module, or a module and a preprocess.
    What it makes is ours: it is moved to the device and takes the weights of `options`. Raises CodeError,
    UsageError, WeightsError.
    """
    with importing_for(name):
        factory = load_code(name)
        made = factory if isinstance(factory, nn.Module) else _made(factory, name)
        if options.weights == "auto" and options.expect_sha256 is None and made is not factory:
            _warn_of_random(made, factory, name)
    module, preprocess = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(module, nn.Module):
        raise CodeError(
            f"{name} gives {type(module).__name__}; it must give a torch.nn.Module, or one and a preprocess"
        )
    if not (preprocess is None or callable(preprocess) or isinstance(preprocess, str)):
        raise CodeError(f"{name} gives {type(preprocess).__name__} as its preprocess; it must be a function")
    origin = "those its code gives it"
    if options.weights != "auto":
        weights = own_weights(options.weights)
        load_into(module, weights)
        origin = weights.origin
    device, move = open_device(options.device), cast("Any", module._apply)
    move(lambda tensor: tensor if tensor.is_meta else tensor.to(device))
    return module, preprocess, origin


def _made(factory: Any, name: str) -> Any:
    if not callable(factory):
        raise CodeError(f"{name} is {type(factory).__name__}; it must be a function that makes the network")
    try:
        return factory()
    except (Exception, SystemExit) as error:  # anything may go wrong in code that is not ours
        raise CodeError(f"{name} fails: {type(error).__name__}: {error}") from error


def _warn_of_random(first: Any, factory: Any, name: str) -> None:
    """Warns when a factory gives other numbers when it is called again: no other process could ask what is
    built with them."""
    try:
        made = (first, factory())
    except (Exception, SystemExit):
        return  # it works once only, so nothing can be told
    digests = []
    for each in made:
        module = each[0] if isinstance(each, tuple) else each
        if not isinstance(module, nn.Module):
            return
        numbers = {**tensors_of(module), **dict(module.named_buffers())}
        digests.append(tensors_sha256({key: tensor for key, tensor in numbers.items() if not tensor.is_meta}))
    if digests[0] != digests[1]:
        warnings.warn(
            f"{name} gives other weights each time it is called, random ones it seems, so that no query can be encoded "
            "as an index is built now: give the trained ones with --weights FILE, load them in the factory, or seed it",
            stacklevel=2,
        )
