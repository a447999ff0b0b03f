"""What a `where` may be: one condition, and nothing that goes on behind it."""

from __future__ import annotations

import re

from embedsearch.errors import UsageError

# strings and names in quotes (a doubled quote stands for one), and the signs that end or hide a part of a statement
_TOKENS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|--|/\*|[();'\"`?]|(?<!\w)\$")
_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AT_RANDOM = re.compile(r"\b(random|uuid)\s*\(", re.IGNORECASE)
_WRONG = {
    "--": "a comment",
    "/*": "a comment",
    ";": "a second statement",
    ")": "a ')' without its '('",
    **{sign: f"a {sign} without its end" for sign in "'\"`"},
    **{sign: f"a {sign} in place of a value" for sign in "?$"},
}


def enclosed(where: str) -> str:
    """`where` in parentheses that nothing in it can close, so that it can only be parsed as one condition; names in
    double quotes are in backticks, as the store wants them.

    The parser takes a WHERE clause up to its end and would pass over what follows it (LIMIT, UNION, a second
    statement) without a word. Raises ValueError for what is none.
    """
    if not isinstance(where, str):
        raise UsageError(f'where is {where!r}; it must be an SQL condition, such as "price < 20"')
    if not where.strip():
        raise ValueError("it is empty; give an SQL condition, such as price < 20, or leave it out")
    depth = 0
    for token in _TOKENS.findall(where):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if (token in _WRONG and token != ")") or depth < 0:
            raise ValueError(f"it holds {_WRONG[token]}; give one SQL condition")
    if depth:
        raise ValueError("a '(' has no ')'; give one SQL condition")
    by_chance = _AT_RANDOM.search(_TOKENS.sub(lambda token: token[0] if len(token[0]) == 1 else "''", where))
    if by_chance:
        raise ValueError(f"{by_chance[1]}() is another condition each time it is asked")
    return f"({_TOKENS.sub(_name_in_backticks, where)})"


def as_name(column: str) -> str:
    """A column as a condition has to name it: in double quotes, unless it is a plain word."""
    return column if _PLAIN_NAME.fullmatch(column) else '"' + column.replace('"', '""') + '"'


def _name_in_backticks(token: re.Match[str]) -> str:
    """ "name" stands for a column, as in SQL; the parser of the store would take it for a text."""
    quoted = token[0]
    if not quoted.startswith('"'):
        return quoted
    name = quoted[1:-1].replace('""', '"')
    if "`" in name:
        raise ValueError(f'no column has a ` in its name; the store keeps {quoted} as "{name.replace("`", "_")}"')
    return f"`{name}`"
