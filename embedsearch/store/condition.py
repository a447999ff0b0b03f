"""What a `where` may be: one condition, and nothing that goes on behind it."""

from __future__ import annotations

import re

# strings and names in quotes (a doubled quote stands for one), and the signs that end or hide a part of a statement
_TOKENS = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`[^`]*`|--|/\*|[();'\"`]")


def enclosed(where: str) -> str:
    """`where` in parentheses that nothing in it can close, so that it can only be parsed as one condition.

    The parser takes a WHERE clause up to its end and would pass over what follows it (LIMIT, UNION, a second
    statement) without a word. Raises ValueError for what is none.
    """
    if not where.strip():
        raise ValueError("it is empty; give an SQL condition, such as price < 20, or leave it out")
    depth = 0
    for token in _TOKENS.findall(where):
        depth += {"(": 1, ")": -1}.get(token, 0)
        if token in {"--", "/*", ";", "'", '"', "`"} or depth < 0:
            wrong = {"--": "a comment", "/*": "a comment", ";": "a second statement", ")": "a ')' without its '('"}
            raise ValueError(f"it holds {wrong.get(token, f'a {token} without its end')}; give one SQL condition")
    if depth:
        raise ValueError("a '(' has no ')'; give one SQL condition")
    return f"({where})"
