"""What can go wrong, as one tree.

    EmbedSearchError                 everything this package raises on purpose
    ├── UsageError                   a wrong argument: name, value, combination        (exit code 2)
    │   ├── UnknownNameError         a name that is not registered or not in a network
    │   └── ContradictionError       what is asked contradicts what the index was built with
    ├── SourceError                  the input as a whole cannot be read               (exit code 1)
    ├── ItemError                    one input cannot be read; a build skips it, a query raises
    ├── WeightsError                 weights are missing, unreadable or not the expected ones
    ├── CodeError                    code of the user's own that a recipe names is missing or fails
    ├── ArtifactError                the index folder is none, unfinished or damaged
    │   ├── UnfinishedBuildError
    │   ├── DamagedIndexError
    │   └── OutdatedReaderError      what is open was replaced since, and its files are removed; refresh() goes on
    ├── PromiseError                 what was promised of an index (recall, memory, latency) cannot be kept
    ├── LockedError                  another process is writing the same index
    └── MissingExtraError            an optional package is not installed

Only the command line turns these into exit codes; the library raises and never prints.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from unicodedata import normalize


class EmbedSearchError(Exception):
    """Base of every error raised on purpose."""


class UsageError(EmbedSearchError, ValueError):
    """An argument has a wrong value; the message names it, the valid ones and the fix."""


class UnknownNameError(UsageError, KeyError):
    """A name that nothing answers to."""

    def __str__(self) -> str:  # KeyError would show the repr
        return str(self.args[0])


class ContradictionError(UsageError):
    """A request contradicts the manifest of the index."""


class SourceError(EmbedSearchError):
    """A source (folder, table, file of texts, matrix) cannot be read at all."""


class ItemError(EmbedSearchError, ValueError):
    """One input cannot be decoded or encoded; the message is the reason."""


class WeightsError(EmbedSearchError):
    """Weights are missing, cannot be read, or are not those the manifest names."""


class CodeError(EmbedSearchError):
    """A recipe names code of the user's own (a network, a preprocess) that is missing or cannot be imported."""


class ArtifactError(EmbedSearchError):
    """A folder is not a complete index."""


class UnfinishedBuildError(ArtifactError):
    """The folder holds a build that was interrupted before its first commit."""


class DamagedIndexError(ArtifactError):
    """A file of the index is missing or differs from what the manifest recorded."""


class OutdatedReaderError(ArtifactError):
    """The generation that is open was removed, for the index has been rebuilt since; `Index.refresh` goes over to the
    newest. What was read before goes on answering until then."""


class PromiseError(EmbedSearchError):
    """An index cannot do what was asked of it; the message says how far it comes and what would keep the promise."""


class LockedError(ArtifactError):
    """Another process is writing this index."""


class MissingExtraError(EmbedSearchError, ImportError):
    """An optional dependency is needed; the message names the extra to install."""


def counted(n: int, noun: str) -> str:
    """A number with what is counted, as messages have it: 1 item, 2,000 items."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def unknown(kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownNameError:
    """The error for a name that is not among `known`, with the nearest ones."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    same = [each for each in names if normalize("NFC", each) == normalize("NFC", name)]
    if same:
        told = f"{same[0]!r} is, in another Unicode form (NFC or NFD)"
    elif near:
        told = f"did you mean {' or '.join(map(repr, near))}?"
    elif not names:
        told = "there are none"
    elif len(names) <= 12:
        told = f"valid: {', '.join(names)}"
    else:
        told = f"{len(names)} names are valid, e.g. {', '.join(names[:4])}"
    return UnknownNameError(f"{kind} {name!r} is not known; {told}{' ' + hint if hint else ''}")
