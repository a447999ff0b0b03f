"""The typer application that every command adds itself to."""

from __future__ import annotations

import typer

app = typer.Typer(
    name="embedsearch",
    help="Similarity search over the inner layers of neural networks.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from embedsearch import __version__

        print(f"embedsearch {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", help="Show the version.", callback=_version, is_eager=True),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Similarity search over the inner layers of neural networks: extract, pool, normalise, index, ask."""
