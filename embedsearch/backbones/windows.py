"""Texts as windows of tokens, so that nothing of a long one is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from embedsearch.errors import ItemError, UsageError
from embedsearch.types import CLASS, CONTENT, OTHER_SPECIAL, Features

# beyond this, the features of a text could not be held at once (0.4 GB at 768 channels)
MAX_TOKENS_A_TEXT = 2**17


@dataclass(frozen=True, slots=True)
class Window:
    """Up to max_tokens tokens. roles: what each is there for. counted: False for a token that the
    neighbouring window counts. span: the characters it covers."""

    ids: list[int]
    roles: list[int]
    counted: list[bool]
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text. is_long: it has, or had before it was cut, more tokens than the network reads at once."""

    windows: tuple[Window, ...]
    is_long: bool

    @property
    def length(self) -> int:
        return sum(len(window.ids) for window in self.windows)


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """Where a token comes from. token: as the tokenizer writes it. word: number of its word in the text, None for a
    special token. start, end: in characters of the text."""

    token: str
    word: int | None
    start: int
    end: int


def tokenize(tokenizer: Any, texts: Sequence[str], max_tokens: int, overlap: int, *, all_of_it: bool) -> list[Any]:
    """Each text as Tokens, special tokens included in every window; an ItemError for one that is too long.

    overlap: tokens that neighbouring windows share; each of them is counted in the one where it stands
    further from the edge, so that every token of the text counts once. all_of_it: False keeps the first
    window alone.
    """
    class_id = tokenizer.cls_token_id
    return [
        _tokens(encodings, class_id, overlap)
        for encodings in _encodings(tokenizer, texts, max_tokens, overlap, all_of_it)
    ]


def spans(tokenizer: Any, text: str, max_tokens: int, overlap: int, *, all_of_it: bool) -> list[list[TokenSpan]]:
    """Where the tokens of a text come from, for each window in the order of `Tokens`; see `tokenize`."""
    (encodings,) = _encodings(tokenizer, [text], max_tokens, overlap, all_of_it)
    return [
        [
            TokenSpan(token, None if word is None else int(word), start, end)
            for token, word, (start, end) in zip(encoding.tokens, encoding.word_ids, encoding.offsets, strict=True)
        ]
        for encoding in encodings
    ]


def _encodings(tokenizer: Any, texts: Sequence[str], max_tokens: int, overlap: int, all_of_it: bool) -> list[list[Any]]:
    """Of each text its windows, as the tokenizer gives them."""
    encoded = tokenizer(
        list(texts),
        truncation=True,
        max_length=max_tokens,
        stride=overlap,
        return_overflowing_tokens=all_of_it,
        return_token_type_ids=False,  # nothing is taken from the lists that it makes, so as few of them as there can be
        return_attention_mask=False,
    )
    of_text: list[list[Any]] = [[] for _ in texts]
    owners = encoded["overflow_to_sample_mapping"] if all_of_it else range(len(texts))
    for encoding, owner in zip(encoded.encodings, owners, strict=True):
        of_text[owner].append(encoding)
    return of_text


def check_overlap(overlap: int, max_tokens: int, n_special: int) -> None:
    """Raises UsageError when windows of max_tokens that share `overlap` would not move on."""
    content = max_tokens - n_special
    if content < 1:
        raise UsageError(f"max_tokens is {max_tokens}; {n_special} of them are special tokens, so give {n_special + 1}")
    if not 0 <= overlap < content:
        raise UsageError(f"overlap is {overlap}; windows of {max_tokens} tokens can share 0 to {content - 1}")


def merge(rows: Sequence[Features], batch: Sequence[Tokens]) -> Features:
    """Features of windows, one at a time and in order, as those of their texts: B x T x C, T the counted
    tokens of the longest."""
    parts, roles, row = [], [], 0
    for tokens in batch:
        values, own_roles = [], []
        for window in tokens.windows:
            values.append(rows[row].values[0])
            role = rows[row].roles
            own_roles.append(torch.zeros(len(values[-1]), dtype=torch.int8) if role is None else role[0])
            row += 1
            if len(values[-1]) == len(window.ids):  # a layer of tokens, not of one vector a window
                counted = torch.tensor(window.counted, device=values[-1].device)
                values[-1], own_roles[-1] = values[-1][counted], own_roles[-1].to(counted.device)[counted]
        parts.append(torch.cat(values))
        roles.append(torch.cat(own_roles))
    padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
    lengths = torch.tensor([len(part) for part in parts], device=padded.device)
    mask = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
    return Features(padded, mask, roles=torch.nn.utils.rnn.pad_sequence(roles, batch_first=True))


def _tokens(encodings: list[Any], class_id: int | None, overlap: int) -> Tokens | ItemError:
    n_tokens = sum(map(len, encodings))
    if n_tokens > MAX_TOKENS_A_TEXT and len(encodings) > 1:
        return ItemError(
            f"the text has about {n_tokens:,} tokens, more than the {MAX_TOKENS_A_TEXT:,} that are pooled into one "
            "vector; split it, or make its windows items of their own with --chunk"
        )
    windows = []
    for number, encoding in enumerate(encodings):
        ids, special = encoding.ids, encoding.special_tokens_mask  # each copies them all
        content = [place for place, is_special in enumerate(special) if not is_special]
        roles = [CONTENT] * len(ids)
        for place in range(len(ids)) if len(content) < len(ids) else ():
            if special[place]:
                roles[place] = CLASS if ids[place] == class_id else OTHER_SPECIAL
        counted = [True] * len(ids)
        # of what two windows share, the first half belongs to the left one, the rest to the right one
        skipped = content[: overlap // 2] if number > 0 else []
        left = content[len(content) - (overlap - overlap // 2) :] if number < len(encodings) - 1 and overlap else []
        for place in (*skipped, *left):
            counted[place] = False
        first, last = ((content and encoding.token_to_chars(content[end])) or (0, 0) for end in (0, -1))
        windows.append(Window(ids, roles, counted, (first[0], last[1])))
    return Tokens(tuple(windows), len(encodings) > 1 or bool(encodings[0].overflowing))
