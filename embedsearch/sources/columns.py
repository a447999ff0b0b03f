"""Types of metadata columns, found by looking at every value once, in constant memory."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, Protocol

import pyarrow as pa

_INT = re.compile(r"-?(0|[1-9]\d{0,18})")  # no leading zeros: "01234" is a code, not a number
_FLOAT = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?")


def _parse(pattern: re.Pattern[str], convert: Callable[[str], Any]) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        if not pattern.fullmatch(text):
            raise ValueError(text)
        return convert(text)

    return parse


def _parse_int(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError(text)
    return value


def _parse_float(text: str) -> float:
    """Refuses whole numbers that a float64 would round, so that such a column stays text."""
    value = float(text)
    if _INT.fullmatch(text) and int(value) != int(text):
        raise ValueError(text)
    return value


def _parse_bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]


# tried in this order; what a column's every value passes is its type
_READINGS: tuple[tuple[pa.DataType, Callable[[str], Any]], ...] = (
    (pa.int64(), _parse(_INT, _parse_int)),
    (pa.float64(), _parse(_FLOAT, _parse_float)),
    (pa.bool_(), _parse_bool),
    (pa.date32(), _parse(_DATE, date.fromisoformat)),
    (pa.timestamp("us"), _parse(_TIME, datetime.fromisoformat)),
)


class TextColumn:
    """A column whose values arrive as text (CSV); an empty cell is null."""

    def __init__(self) -> None:
        self._left = list(_READINGS)
        self._seen = False

    def observe(self, value: str) -> None:
        if value == "":
            return
        self._seen = True
        self._left = [reading for reading in self._left if _passes(reading[1], value)]

    @property
    def type(self) -> pa.DataType:
        return self._left[0][0] if self._left and self._seen else pa.string()

    def convert(self, value: str) -> Any:
        if value == "":
            return None
        return self._left[0][1](value) if self._left else value


class ValueColumn:
    """A column whose values arrive typed (JSON); mixed or nested values are kept as JSON text."""

    def __init__(self) -> None:
        self._kinds: set[type] = set()
        self._floats_hold_all = True

    def observe(self, value: Any) -> None:
        if value is None:
            return
        too_long = isinstance(value, int) and not -(2**63) <= value < 2**63
        self._kinds.add(str if too_long else type(value))
        if isinstance(value, int) and not too_long:
            self._floats_hold_all &= int(float(value)) == value

    @property
    def type(self) -> pa.DataType:
        if self._kinds == {int}:
            return pa.int64()
        if self._kinds == {float} or (self._kinds == {int, float} and self._floats_hold_all):
            return pa.float64()
        if self._kinds == {bool}:
            return pa.bool_()
        return pa.string()

    def convert(self, value: Any) -> Any:
        if value is None:
            return None
        if self.type == pa.float64():
            return float(value)
        if self.type == pa.string() and not isinstance(value, str):
            return json.dumps(value, ensure_ascii=False)
        return value


class Column(Protocol):
    """A column whose values are known."""

    def convert(self, value: Any) -> Any: ...


def convert_row(columns: Mapping[str, Column], row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: column.convert(row.get(name)) for name, column in columns.items()}


def _passes(parse: Callable[[str], Any], value: str) -> bool:
    try:
        parse(value)
    except (ValueError, KeyError):
        return False
    return True
