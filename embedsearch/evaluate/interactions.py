"""Who took what: read from whatever holds it, and split into what is known and what is held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from embedsearch.errors import UsageError, unknown

Split = Literal["last", "random", "time"]
SPLITS: tuple[Split, ...] = get_args(Split)
USUAL_SHARE = 0.2  # that is held out, where no number an user is asked for


@dataclass(frozen=True, slots=True)
class Interactions:
    """One entry for each pair of user and item. users, items: str. weights: float64, above 0 where the item was
    liked. times: float64, or None."""

    users: NDArray[np.object_]
    items: NDArray[np.object_]
    weights: NDArray[np.float64]
    times: NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(cls, data: Any) -> Self:
        """data: a DataFrame, an Arrow table or a mapping of columns, with `user`, `item` and perhaps `weight` and
        `time` (numbers, or dates); or a list of such tuples. Where a pair comes twice its latest entry counts, or the
        last one.

        Raises UsageError for a column that is missing, lengths that differ, NaN, a user or item that is missing.
        """
        columns = _columns(data)
        for name in ("user", "item"):
            if name not in columns:
                raise UsageError(f"interactions have no column {name!r}; they have {', '.join(columns) or 'none'}")
        users, items = (_names(columns[name], name) for name in ("user", "item"))
        weights = _numbers(columns["weight"], "weight") if "weight" in columns else np.ones(len(users))
        times = _numbers(columns["time"], "time") if "time" in columns else None
        if not len(users) == len(items) == len(weights) or (times is not None and len(times) != len(users)):
            raise UsageError("the columns of interactions are not of one length")
        order = np.arange(len(users)) if times is None else np.argsort(times, kind="stable")
        latest = {(users[at], items[at]): at for at in order}
        kept = np.array(sorted(latest.values()), np.int64)
        return cls(users[kept], items[kept], weights[kept], None if times is None else times[kept])

    def where(self, kept: NDArray[np.bool_]) -> Self:
        """Some of the entries."""
        times = None if self.times is None else self.times[kept]
        return type(self)(self.users[kept], self.items[kept], self.weights[kept], times)


def split_interactions(
    interactions: Any, split: Split = "last", *, held: float | None = None, seed: int = 0
) -> tuple[Interactions, Interactions]:
    """What is known, and what is held out; whatever is learnt (factors, a strategy, a weight) may only see the first.

    split: "last", the latest likes of each user; what else a user did at the time of the first of them or later is
    left out, but what others did then is known; "random", some likes of each user; "time", all that happened after
    one moment, as in use: the one that looks into nobody's future. held: how many of each user's likes (1 or more),
    or which share of them (below 1); by default the last one, and a fifth for the others. Of "time" it is a share of
    all entries. Users with a single like
    keep it, except under "time". Raises UsageError for another name, a number that cannot be meant, or times that are
    needed and missing.
    """
    data = interactions if isinstance(interactions, Interactions) else Interactions.of(interactions)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if held is None:
        held = 1 if split == "last" else USUAL_SHARE
    if not held > 0 or (split == "time" and held >= 1) or (held > 1 and held != int(held)):
        raise UsageError(f"held is {held}; give a number of each user's likes, or a share between 0 and 1")
    if data.times is None and split != "random":
        raise UsageError(f"split {split!r} needs the column time; without it take split='random'")
    liked = data.weights > 0
    out = np.zeros(len(data), np.bool_)
    if split == "time":
        assert data.times is not None
        if len(data):
            out = data.times > np.quantile(data.times, 1 - held, method="lower")
        return data.where(~out), data.where(out & liked)
    key = data.times if split == "last" and data.times is not None else np.random.default_rng(seed).random(len(data))
    _, user = np.unique(data.users.astype(str), return_inverse=True)
    order = np.lexsort((key, user))
    order = order[liked[order]]
    n_liked = np.bincount(user[order], minlength=int(user.max(initial=-1)) + 1)
    n_held = np.floor(n_liked * held) if held < 1 else np.full(len(n_liked), held)
    n_held = np.minimum(np.maximum(n_held, 1), n_liked - 1)
    begins = np.cumsum(n_liked) - n_liked
    place = np.arange(len(order)) - begins[user[order]]
    out[order[place >= (n_liked - n_held)[user[order]]]] = True
    known = ~out
    if split == "last":
        assert data.times is not None
        begins_at = np.full(len(n_liked), np.inf)
        np.minimum.at(begins_at, user[out], data.times[out])
        known &= liked | (data.times < begins_at[user])  # a later dislike would tell of what came before
    return data.where(known), data.where(out)


def _columns(data: Any) -> dict[str, Any]:
    if hasattr(data, "column_names"):  # an Arrow table
        return {name: data[name].to_pylist() for name in data.column_names}
    if isinstance(data, Mapping):
        return {str(name): list(values) for name, values in data.items()}
    if hasattr(data, "columns"):  # a DataFrame
        return {str(name): data[name].to_numpy() for name in data.columns}
    rows = [tuple(row) for row in data]
    widths = {len(row) for row in rows}
    if len(widths) > 1 or not widths <= {2, 3, 4}:
        raise UsageError("interactions are tuples of user, item and perhaps weight and time, all of one length")
    names = ("user", "item", "weight", "time")[: max(widths, default=2)]
    return {name: [row[at] for row in rows] for at, name in enumerate(names)}


def _names(values: Any, what: str) -> NDArray[np.object_]:
    names = np.array([None if _is_missing(value) else str(value) for value in values], object)
    missing = [at for at, name in enumerate(names) if name is None]
    if missing:
        raise UsageError(f"{what} of interactions is missing, first at {missing[0]}; leave such entries out")
    return names


def _is_missing(value: Any) -> bool:
    """None, NaN, and what pandas has for nothing (NA is equal to nothing, and says so by neither)."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)


def _numbers(values: Any, what: str) -> NDArray[np.float64]:
    try:
        array = np.asarray(values)
        if array.dtype.kind == "O":
            array = np.array([getattr(value, "timestamp", lambda v=value: v)() for value in array.tolist()])
        numbers = (
            array.astype("datetime64[us]").astype(np.float64) if array.dtype.kind == "M" else array.astype(np.float64)
        )
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} of interactions must be numbers: {error}") from error
    if not np.isfinite(numbers).all():
        raise UsageError(
            f"{what} of interactions holds NaN or infinity, first at {int(np.argmin(np.isfinite(numbers)))}"
        )
    return numbers
