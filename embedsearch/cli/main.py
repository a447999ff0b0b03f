"""The entry point: runs a command and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from typing import Any, NoReturn

import typer

from embedsearch.cli.app import app
from embedsearch.errors import EmbedSearchError, UsageError

_COMMANDS = (
    "add", "build", "delete", "duplicates", "embed", "evaluate", "explain", "info", "layers", "map", "optimize",
    "query", "recommend", "tune",
)  # fmt: skip

# the base of the parser's errors, in whichever copy of click this typer uses
_ClickError: Any = typer.BadParameter.__mro__[2]

DONE, FAILED, WRONG_USAGE, SKIPPED, INTERRUPTED = 0, 1, 2, 3, 130


def run(args: list[str] | None = None) -> NoReturn:
    """Runs the command line and exits: 0 done, 1 failed, 2 wrong usage, 3 done with --strict but some
    inputs were skipped, 130 interrupted."""
    arguments = sys.argv[1:] if args is None else args
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"] or ["--help"]
    warnings.showwarning = _show_warning
    warnings.filterwarnings("ignore", module="PIL")  # oddities of single files; what matters is in skipped.jsonl
    for name in _COMMANDS:
        import_module(f"embedsearch.cli.{name}")
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="embedsearch", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # some versions of typer return it
            raise KeyboardInterrupt
    except _ClickError as error:
        context = getattr(error, "ctx", None)
        hint = f" (see `{context.command_path} --help`)" if context else ""
        code = _told(f"error: {_one_line(error.format_message())}{hint}", WRONG_USAGE)
    except (KeyboardInterrupt, typer.Abort):
        code = _told(
            "interrupted; an interrupted build, add or tune goes on when the same command is run again", INTERRUPTED
        )
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has what it wanted
        code = DONE
    except (EmbedSearchError, OSError, MemoryError) as error:
        if debug:
            raise
        code = _told(f"error: {_one_line(error)}", WRONG_USAGE if isinstance(error, UsageError) else FAILED)
    except Exception as error:
        if debug:
            raise
        code = _told(f"error: {type(error).__name__}: {_one_line(error)} (run with --debug for the traceback)", FAILED)
    sys.exit(code or DONE)


def _show_warning(message: Any, category: Any, filename: str, lineno: int, file: Any = None, line: Any = None) -> None:
    sys.stderr.write(f"warning: {_one_line(str(message))}\n")


def _told(message: str, code: int) -> int:
    sys.stderr.write(message + "\n")
    return code


def _one_line(error: BaseException | str) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.strerror}: {error.filename}"
    return " ".join(str(error).split()) or type(error).__name__
