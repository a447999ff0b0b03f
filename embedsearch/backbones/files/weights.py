"""Weights from files: read safely, named by the hash of their bytes."""

from __future__ import annotations

import hashlib
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from embedsearch.backbones.files.inert_names import Stub
from embedsearch.backbones.files.module_file import module_tensors, read_inert
from embedsearch.backbones.module_state import forget, tensors_of
from embedsearch.config import TORCH_SUFFIXES
from embedsearch.errors import ContradictionError, UsageError, WeightsError

State = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Weights:
    """A state dict, the sha256 of the file(s) it was read from, and where that was.

    metadata: the versions that torch stores beside a state dict, or None.
    """

    state: State
    sha256: str
    origin: str
    metadata: Any = None


def sha256_of(paths: Iterable[Path]) -> str:
    """The sha256 of one file; of several, the sha256 of their hashes in the order of their names."""
    hashes = []
    for path in sorted(paths):
        with path.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def check_sha256(
    found: str, expected: str | None, origin: str, fix: str = "say where the right ones lie with --weights"
) -> None:
    """Raises ContradictionError when an index names another hash than that of the weights found."""
    if expected not in (None, found):
        raise ContradictionError(
            f"the index was built with weights of sha256 {str(expected)[:16]}…, those found here ({origin}) have "
            f"{found[:16]}…; {fix}"
        )


def read_weights(path: Path) -> Weights:
    """The tensors in a .safetensors file or a .pth/.pt/.bin checkpoint: a state dict or a whole module of torch.save.

    Nothing is unpickled freely: of a whole module only its tensors are taken, its classes are never imported.
    Raises UsageError for another suffix, WeightsError when the file cannot be read or holds no tensors.
    """
    if not path.is_file():
        raise WeightsError(f"weights {path} do not exist; give a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        elif path.suffix in TORCH_SUFFIXES:
            state = _read_checkpoint(path)
        else:
            raise UsageError(f"weights {path} end in {path.suffix!r}; valid: {', '.join(TORCH_SUFFIXES)}")
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise WeightsError(f"weights {path} cannot be read: {error}") from error
    except Exception as error:
        # safetensors raises an error class of its own, which is not exported under one name
        if type(error).__module__.startswith("safetensors"):
            raise WeightsError(f"weights {path} are no safetensors file: {error}") from error
        raise
    tensors = _state_dict(state, path)
    return Weights(tensors, sha256_of([path]), str(path), getattr(tensors, "_metadata", None))


def assign_weights(module: nn.Module, weights: Weights) -> None:
    """Puts `weights` into a module on the meta device; what they lack stays on meta.

    Tensors of another shape (a classifier for other classes) are left out, and missed only if a layer
    above them is asked for. Raises WeightsError when nothing fits.
    """
    fitting = OrderedDict(
        (name, tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16, torch.float64) else tensor)
        for name, tensor in _fitting(weights, tensors_of(module)).items()
    )
    # versions of the layers' formats, which safetensors does not keep; some networks read them
    fitting._metadata = weights.metadata or module.state_dict()._metadata  # type: ignore[attr-defined]
    module.load_state_dict(fitting, strict=False, assign=True)


def _read_checkpoint(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # torch's words about protocols above 2 and TorchScript, before it refuses them
            warnings.filterwarnings("ignore", "Detected pickle protocol|'torch.load' received a zip file")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_can_map(path))
    except Exception:  # it refuses what is more than tensors; of a damaged file the other reader tells in one line
        return read_inert(path)


def own_weights(weights: str) -> Weights:
    """Weights for a network of the user's own, which only a file can hold."""
    if weights == "packaged":
        raise UsageError("weights 'packaged' are for networks that are known by name; give a file")
    return read_weights(Path(weights).expanduser())


def load_into(module: nn.Module, weights: Weights) -> None:
    """Copies weights into a module that is ours; what they lack is taken away, so that no random number
    is ever part of a vector. Raises WeightsError when nothing fits."""
    own = tensors_of(module)
    fitting = _fitting(weights, own)
    # into tensors without numbers nothing can be copied
    module.load_state_dict(fitting, strict=False, assign=any(tensor.is_meta for tensor in own.values()))
    # a tied tensor is stored once in a file, and loaded under all of its names; a counter is no weight
    loaded = {own[name].data_ptr() for name in fitting if not own[name].is_meta}
    missing = [name for name, tensor in own.items() if name not in fitting and tensor.data_ptr() not in loaded]
    forget(module, [name for name in missing if not name.endswith("num_batches_tracked")])


def _fitting(weights: Weights, own: Mapping[str, torch.Tensor]) -> State:
    """The weights that a network with the tensors `own` has a place for, by name and shape.

    Raises WeightsError when there are none, which tells another network.
    """
    state = weights.state
    fitting = {name: tensor for name, tensor in state.items() if name in own and own[name].shape == tensor.shape}
    if not fitting:
        raise WeightsError(
            f"weights {weights.origin} do not belong to this network: it needs e.g. {next(iter(own), 'nothing')!r}, "
            f"they hold e.g. {next(iter(state), 'nothing')!r}"
        )
    return fitting


def _under_another_key(checkpoint: Any, path: Path) -> Any:
    """What lies under a key of the user's own, where that is the only state dict in a checkpoint."""
    if not isinstance(checkpoint, Mapping) or _holds_weights(checkpoint):
        return checkpoint
    found = {str(key): value for key, value in checkpoint.items() if isinstance(value, Stub) or _holds_weights(value)}
    if len(found) > 1:
        raise WeightsError(
            f"weights {path} hold several state dicts, under {', '.join(found)}; save the one that is meant"
        )
    return next(iter(found.values())) if found else checkpoint


def _holds_weights(value: Any) -> bool:
    """True for a state dict; statistics, losses and states of generators, which lie beside one, are no matrices."""
    if not isinstance(value, Mapping):
        return False
    return any(isinstance(tensor, torch.Tensor) and tensor.ndim > 1 for tensor in value.values())


def _can_map(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(2) == b"PK"  # torch's zip format; the older one cannot be mapped


def _state_dict(checkpoint: Any, path: Path) -> State:
    """The state dict in what a checkpoint file holds: itself, a module's, or under the usual keys and prefixes."""
    for key in ("state_dict", "model_state_dict", "model"):
        inner = checkpoint.get(key) if isinstance(checkpoint, Mapping) else None
        if isinstance(inner, Stub) or (isinstance(inner, Mapping) and any(map(torch.is_tensor, inner.values()))):
            checkpoint = inner
    checkpoint = _under_another_key(checkpoint, path)
    told = checkpoint.origin if isinstance(checkpoint, Stub) else type(checkpoint).__name__
    if isinstance(checkpoint, Stub):
        checkpoint = module_tensors(checkpoint)
    elif isinstance(checkpoint, nn.Module):  # only where a program told torch that its class is safe
        checkpoint = checkpoint.state_dict()
    if not isinstance(checkpoint, Mapping):
        raise WeightsError(f"weights {path} hold {told}, not a state dict")
    state = OrderedDict((str(name), value) for name, value in checkpoint.items() if isinstance(value, torch.Tensor))
    if not state:
        raise WeightsError(
            f"weights {path} hold {told} without tensors, and nothing in it was run; "
            "save the state_dict() of a network, best as .safetensors"
        )
    prefix = "module."  # left by DataParallel
    if all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    state._metadata = getattr(checkpoint, "_metadata", None)  # type: ignore[attr-defined]
    return state
