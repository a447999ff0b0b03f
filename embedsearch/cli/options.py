"""What several commands take. `Name[Optional[str]]` where a recipe may stand behind the option, else `Name[str]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar

import typer
from typer.core import TyperCommand, TyperOption

from embedsearch.errors import UsageError
from embedsearch.registry import POOLING

if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")

# ---- arguments -----------------------------------------------------------------------------------------------------

IndexFolder = Annotated[Path, typer.Argument(help="Folder of the index.")]
NetworkName = Annotated[
    str,
    typer.Argument(help="A torchvision name (vgg16, ...), bert, minilm, keras:PATH, module:FILE.py:FACTORY."),
]

# ---- how it is asked -----------------------------------------------------------------------------------------------

Expand = Annotated[
    int,
    typer.Option(
        help="So many of the best answers join the query, which is asked again (alpha query expansion, cosine only). "
        "Scores are those of the joined query."
    ),
]

# ---- the network and its layers ------------------------------------------------------------------------------------

Weights = Annotated[
    Value,
    typer.Option(
        help="auto, packaged, a .safetensors or .pth file, a folder or hub name for bert. Default: auto.",
        show_default=False,
    ),
]
Layer = Annotated[
    Optional[list[str]],
    typer.Option(
        help="Name or alias, as `embedsearch layers` lists them; may be repeated. Or first-last-avg, last-4-avg. "
        "Default: the backbone's own."
    ),
]
LayerWeight = Annotated[Optional[list[float]], typer.Option(help="One for each --layer, in their order. Default: 1.")]
Combine = Annotated[
    Value,
    typer.Option(
        help="Several layers: concat (vectors), mean (activations). Default: concat.",
        show_default=False,
    ),
]
_POOLING_DEFAULT = "auto (the default of build): rmac for maps of VGG, else mean (that of embed)."
Pooling = Annotated[Value, typer.Option(help=_POOLING_DEFAULT, show_default=False)]  # names: see NamingCommand
GemP = Annotated[Value, typer.Option(help="Exponent of gem. Default: 3.", show_default=False)]

# ---- what it reads -------------------------------------------------------------------------------------------------

Size = Annotated[Optional[int], typer.Option(help="Pixels of the shorter side. Default: the network's own.")]
Fit = Annotated[Value, typer.Option(help="crop, pad or squash. Default: crop.", show_default=False)]
Scale = Annotated[
    Optional[list[float]],
    typer.Option(help="Average over pictures at this multiple of --size; may be repeated. Default: 1."),
]
Flip = Annotated[Value, typer.Option("--flip", help="Average over each picture and its mirror image.")]
Preprocess = Annotated[
    Optional[str],
    typer.Option(
        help="For a network of your own: torch, caffe, tf, unit or raw (how pixels are scaled), or "
        "module:FILE_OR_PACKAGE:FUNCTION from one item to its tensor."
    ),
]
Channels = Annotated[
    Value,
    typer.Option(
        help="For a network of your own: first or last, where its layers have their channels. Default: auto.",
        show_default=False,
    ),
]
MaxTokens = Annotated[Optional[int], typer.Option(help="Tokens of one window of a text. Default: the network's own.")]
Overlap = Annotated[
    Optional[int], typer.Option(help="Tokens that neighbouring windows share. Default: an eighth of a window.")
]
Cut = Annotated[bool, typer.Option("--cut", help="Cut longer texts after their first window.")]

# ---- tables, and rows with ids beside them ------------------------------------------------------------------------

Ids = Annotated[
    Optional[Path],
    typer.Option(
        help="File with ids, one a line, for the rows of a matrix or embedding table or the lines of FILE.txt."
    ),
]
IdPrefix = Annotated[
    Optional[str], typer.Option(help="A word before every id, so that rows which are only numbered are nobody else's.")
]
MetadataFile = Annotated[
    Optional[Path],
    typer.Option(
        "--metadata",
        help="FILE.csv, .jsonl or .parquet beside a matrix or embedding table: row i belongs to vector i, and its id "
        "column gives the ids.",
    ),
]
IdColumn = Annotated[Optional[str], typer.Option(help="Column with ids. Default: id, else the row number.")]
TextColumn = Annotated[Optional[str], typer.Option(help="Column with texts. Default: text.")]
ImageColumn = Annotated[Optional[str], typer.Option(help="Column with paths of pictures. Default: image.")]

# ---- where parts of an index's encoder lie now -------------------------------------------------------------------

MovedWeights = Annotated[
    Optional[str], typer.Option(help="Where the network's weights lie now, if they have moved; checked by hash.")
]
MovedBackbone = Annotated[
    Optional[str],
    typer.Option(help="Where the code or file of a network of your own lies now: module:FILE.py:FACTORY, keras:PATH."),
]
MovedPreprocess = Annotated[
    Optional[str], typer.Option(help="Where the code of your own preprocess lies now: module:FILE.py:FUNCTION.")
]

# ---- how it runs, and what it prints -------------------------------------------------------------------------------

# ---- what an index must do -----------------------------------------------------------------------------------------

_KINDS = (
    "auto, flat (exact), graph (fast), ivf (little memory), hnsw (FAISS's graph), or a FAISS factory string "
    "such as IVF1024,SQ8."
)
IndexKind = Annotated[
    Optional[str], typer.Option("--index", help=f"{_KINDS} Default: as it was asked for before, else auto.")
]
Recall = Annotated[
    Optional[float],
    typer.Option(help="Promise: recall@10 against exact search, such as 0.95; measured, or the command fails."),
]
Memory = Annotated[
    Optional[str], typer.Option(help="Promise: memory the index takes at most, such as 2GiB; ids not counted.")
]
LatencyMs = Annotated[
    Optional[float], typer.Option(help="Promise: milliseconds that one query alone takes, the median.")
]

# ---- running -------------------------------------------------------------------------------------------------------

Precision = Annotated[
    str,
    typer.Option(
        help="float32, bfloat16, int8 (8-bit products: BERT and its kin on a CPU with AVX-512-VNNI and -BF16 and no "
        "AMX), or auto: bfloat16 where the processor has it and vectors stay what they are."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, or several: cuda:0,cuda:1.")]
BatchSize = Annotated[str, typer.Option(help="Items the network reads at once, or auto.")]
Threads = Annotated[
    Optional[int], typer.Option("--threads", "--workers", help="Threads that decode and compute. Default: all cores.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with 3 when inputs were skipped.")]
ReportAsJson = Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON on stdout.")]


class NamingCommand(TyperCommand):
    """Names the poolings in its help, and only there: looking for those of other packages takes milliseconds."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for parameter in self.params:
            if isinstance(parameter, TyperOption) and parameter.name == "pooling":
                parameter.help = f"{', '.join(POOLING)}. {_POOLING_DEFAULT}"
        super().format_options(ctx, formatter)


def long_texts(chunk: bool, cut: bool) -> str | None:
    """The recipe's field for the flags --chunk and --cut."""
    if chunk and cut:
        raise UsageError("--chunk and --cut are both set; a longer text is chunked or cut")
    return "chunk" if chunk else "cut" if cut else None


def how_many(k: str) -> int | None:
    """The value of -k: a whole number, or None for all."""
    if k == "all":
        return None
    try:
        return int(k)
    except ValueError:
        raise UsageError(f"-k is {k!r}; it must be a whole number, or all") from None


def auto_int(option: str, value: str) -> int | None:
    """The number that an option holds, None for auto."""
    if value == "auto":
        return None
    if not value.isdigit():
        raise UsageError(f"{option} {value!r} is not valid; give a number or auto")
    return int(value)


def with_stdin(entries: list[str]) -> list[str]:
    """The entries, with - replaced by the lines of stdin, blank ones too: what is asked is answered or refused."""
    return _with_lines(entries, lambda line: True)


def ids_with_stdin(entries: list[str]) -> list[str]:
    """The same where lines are ids, of which none is blank: a blank line parts them only."""
    return _with_lines(entries, lambda line: bool(line.strip()))


def _with_lines(entries: list[str], wanted: Callable[[str], bool]) -> list[str]:
    read = []
    for entry in entries:
        if entry == "-":
            read += [line.rstrip("\r\n") for line in sys.stdin if wanted(line)]
        else:
            read.append(entry)
    return read
