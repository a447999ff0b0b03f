"""Ratings and age as weights of a history."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embedsearch.errors import UsageError


def interaction_weights(
    ratings: ArrayLike | None = None,
    *,
    neutral: float | None = None,
    ages: ArrayLike | None = None,
    half_life: float | None = None,
) -> NDArray[np.float64]:
    """Weights float64 for histories, from ratings, from ages, or from both.

    ratings: numbers, as they are; with `neutral`, what lies above or below it: a rating below becomes a negative
    weight, which pushes away, and one that equals it 0, which is only known. ages: of the same length, not negative,
    in any unit; halves the weight with every half_life: rating x 2^(-age / half_life), the exponential decay of Ding
    & Li (CIKM 2005). Raises UsageError for NaN, infinity, other lengths, or an age without half_life.
    """
    if ratings is None and ages is None:
        raise UsageError("interaction_weights takes ratings, ages or both")
    if (ages is None) != (half_life is None):
        raise UsageError("ages and half_life go together: weights halve with every half_life of age")
    found: NDArray[np.float64] | None = None
    if ratings is not None:
        found = _numbers(ratings, "ratings") - (0.0 if neutral is None else neutral)
    if ages is None or half_life is None:
        assert found is not None
        return found
    if not half_life > 0:
        raise UsageError(f"half_life is {half_life}; it must be above 0, in the unit of ages")
    old = _numbers(ages, "ages")
    if (old < 0).any():
        raise UsageError(f"ages hold {old.min():g}; an age is 0 for now and larger before")
    decay = np.exp2(-old / half_life)
    if found is None:
        return decay
    if found.shape != old.shape:
        raise UsageError(f"there are {len(found)} ratings and {len(old)} ages")
    return found * decay


def _numbers(values: ArrayLike, what: str) -> NDArray[np.float64]:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{what} must be numbers: {error}") from error
    if numbers.ndim != 1:
        raise UsageError(f"{what} must be one list of numbers, not of shape {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise UsageError(f"{what} hold NaN or infinity, first at {int(np.argmin(np.isfinite(numbers)))}")
    return numbers
