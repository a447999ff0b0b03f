"""Code of the user's own, named as module:FILE_OR_PACKAGE:NAME."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any

from embedsearch.config import MEMORY_SCHEME, MODULE_SCHEME
from embedsearch.errors import CodeError, UsageError, unknown

_ALIAS = "embedsearch_user_"


def load_code(reference: str, option: str = "backbone") -> Any:
    """What `reference`, "module:net.py:make" or "module:package.file:make", names.

    A file's own folder, or the current folder for a package that is not installed, is where it may
    import from. option: what it was given for, for the message. Raises UsageError when the reference is
    none, CodeError when the code is missing or fails.
    """
    place, name = _parts(reference)
    module = _from_file(Path(place), option) if place.endswith(".py") else _from_package(place, option)
    if not hasattr(module, name):
        raise unknown("name", name, [n for n in vars(module) if not n.startswith("_")], f"(in {place})")
    return getattr(module, name)


@contextmanager
def importing_for(reference: str) -> Iterator[None]:
    """While code that `reference` names runs, it may import what lies beside it."""
    place, _ = _parts(reference)
    is_file = place.endswith(".py")
    with _importing_from(Path(place).expanduser().absolute().parent if is_file else Path.cwd(), forgetting=is_file):
        yield


def absolute(reference: str) -> str:
    """The same reference with the path of a file made absolute, so that it is found from another folder."""
    place, name = _parts(reference)
    return f"{MODULE_SCHEME}{Path(place).expanduser().absolute()}:{name}" if place.endswith(".py") else reference


def code_sha256(references: Iterable[str | None]) -> str | None:
    """The sha256 of the files that the references among `references` name (not of what those import);
    None when there is no such file."""
    digest = hashlib.sha256()
    found = False
    for reference in references:
        if reference is None or not reference.startswith(MODULE_SCHEME):
            continue
        place, _ = _parts(reference)
        if not place.endswith(".py"):
            spec = importlib.util.find_spec(place) if place in sys.modules else None
            place = str(spec.origin) if spec is not None else ""
        if Path(place).is_file():
            digest.update(Path(place).read_bytes())
            found = True
    return digest.hexdigest() if found else None


def code_name(thing: Any) -> str:
    """The name under which the manifest tells of a network or function that was given in Python."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{MEMORY_SCHEME}{named.__module__}.{named.__qualname__}"


def _parts(reference: str) -> tuple[str, str]:
    place, colon, name = reference.removeprefix(MODULE_SCHEME).rpartition(":")
    if not colon or not place or not name:
        raise UsageError(f"{reference!r} names no code; write module:FILE.py:NAME or module:package.file:NAME")
    return place, name


def _from_file(path: Path, option: str) -> ModuleType:
    path = path.expanduser().absolute()
    if not path.is_file():
        raise CodeError(f"the code {path} does not exist; {_supply(option)}")
    # under a name of its own, so that it hides no installed package; known there, as dataclasses need it
    alias = f"{_ALIAS}{path.stem}_{blake2b(str(path).encode(), digest_size=6).hexdigest()}"
    spec = importlib.util.spec_from_file_location(alias, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module
    try:
        with _importing_from(path.parent, forgetting=True), _told(str(path)):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[alias]
        raise
    return module


def _from_package(place: str, option: str) -> ModuleType:
    with _importing_from(Path.cwd()), _told(place):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name is not None and (place == error.name or place.startswith(f"{error.name}.")):
                raise CodeError(
                    f"the code {place} is not installed and not in the current folder ({Path.cwd()}); {_supply(option)}"
                ) from error
            raise


def _supply(option: str) -> str:
    given = "the_network" if option == "backbone" else "the_function"
    return (
        f"name it where it is: --{option} module:FILE.py:NAME; an index that was built with it can also be opened "
        f"with embedsearch.open(path, {option}={given})"
    )


@contextmanager
def _importing_from(folder: Path, *, forgetting: bool = False) -> Iterator[None]:
    """forgetting: what was imported from there is forgotten again, so that a file beside another network,
    which may have the same name, is not taken for it."""
    entry = str(folder)
    if entry in sys.path:
        yield
        return
    before = set(sys.modules)
    sys.path.append(entry)  # behind what is installed, so that a stray random.py breaks nothing
    try:
        yield
    finally:
        sys.path.remove(entry)
        if forgetting:
            for name in set(sys.modules) - before:
                origin = getattr(sys.modules[name], "__file__", None)
                if origin is not None and Path(origin).is_relative_to(folder) and not name.startswith(_ALIAS):
                    del sys.modules[name]


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except CodeError:
        raise
    except (Exception, SystemExit) as error:  # anything may go wrong in code that is not ours
        raise CodeError(f"the code {what} cannot be imported: {type(error).__name__}: {error}") from error
