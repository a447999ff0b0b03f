"""Checks of what a recommender is given, and the histories that it stands for."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedsearch.engine.preferences import require_weights
from embedsearch.errors import UsageError


def require_history(liked: Any) -> None:
    """Raises UsageError for what is no list or mapping of inputs, but perhaps one input."""
    if isinstance(liked, str):
        raise UsageError(f"liked is a list of ids or other inputs, not one text: [{liked!r}]")
    if (isinstance(liked, np.ndarray) and liked.ndim == 1 and liked.dtype.kind == "f") or (
        isinstance(liked, list | tuple) and len(liked) > 0 and all(isinstance(value, float) for value in liked)
    ):
        raise UsageError("liked is one vector; wrap it in a list: [vector]")
    if not isinstance(liked, Sequence | Set | Mapping | np.ndarray):
        raise UsageError(
            f"liked is {str(liked)[:80]}; it must be a list of ids or other inputs, or a mapping to weights"
        )


def holds_vectors(item: Any) -> bool:
    return isinstance(item, list | tuple) and len(item) > 0 and all(np.ndim(each) == 1 for each in item)


def several(exclude: Sequence[str] | str | None) -> Sequence[str]:
    """One id may stand for a list of it."""
    return [exclude] if isinstance(exclude, str) else list(exclude or ())


def require_ids(user_items: NDArray[Any], n_items: int) -> None:
    """Raises UsageError for a dense matrix of weights."""
    if user_items.dtype.kind in "fb" or user_items.shape[1] == n_items:
        raise UsageError("user_items is a dense matrix; give a sparse one: scipy.sparse.csr_matrix(user_items)")


def whole(name: str, value: Any, *, least: int = 1) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise UsageError(f"{name} is {value!r}; it must be a whole number") from None
    if number < least:
        raise UsageError(f"{name} is {number}; it must be at least {least}")
    return number


def each_history(user_items: Any) -> Sequence[Any]:
    if isinstance(user_items, str | Mapping) or not isinstance(user_items, Sequence | np.ndarray):
        raise UsageError("user_items is a scipy sparse matrix, or a list with a list of ids for each user")
    for place, history in enumerate(user_items):
        if isinstance(history, str) or not isinstance(history, Sequence | Set | Mapping | np.ndarray):
            raise UsageError(f"user_items holds {history!r} at {place}; it must be a list of ids for each user")
    return list(user_items)


def one_history(
    history: Any, weights: Sequence[float] | None, *, signed: bool = False
) -> tuple[list[Any], NDArray[np.float64]]:
    """Inputs and the weight of each."""
    if isinstance(history, Mapping):
        if weights is not None:
            raise UsageError("liked is a mapping of ids to weights already; leave out weights")
        items, given = list(history), list(history.values())
    else:
        items = sorted(history, key=str) if isinstance(history, Set) else list(history)
        given = [1.0] * len(items) if weights is None else list(weights)
    if len(given) != len(items):
        raise UsageError(f"there are {len(given)} weights for {len(items)} liked items")
    try:
        told = np.array(given, np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise UsageError(f"weights must be numbers: {error}") from error
    require_weights(told, "weights")
    if not signed and (told < 0).any():
        raise UsageError(f"weights hold {told.min():g}; what pushes away goes into disliked")
    return items, told
