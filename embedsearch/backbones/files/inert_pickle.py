"""An unpickler that runs nothing of a file: for checkpoints that hold more than tensors.

Unpickling imports and calls whatever a file names. Here every class and function that a file names becomes a `Stub`, a
record that cannot be called, but for the few whose meaning `inert_names` gives. The interpreter is Python's own, cut
down to the opcodes of plain data, with those that call, import or mutate replaced.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable
from types import FunctionType
from typing import IO, Any, ClassVar

import torch
from torch.serialization import StorageType

from embedsearch.backbones.files.inert_names import Stub, meaning, require

# opcodes that build plain data; a list of those allowed, so that no later Python can add one unseen
_PLAIN = (
    "PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT "
    "BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST LIST EMPTY_DICT DICT EMPTY_SET "
    "FROZENSET GET BINGET LONG_BINGET PUT BINPUT LONG_BINPUT MEMOIZE GLOBAL STACK_GLOBAL"
)


class Unpickler(pickle._Unpickler):
    """For torch.load's `pickle_module`, which derives from it and sets `persistent_load`, the finder of storages."""

    stack: list[Any]  # Python's own names
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def find_class(self, module: str, name: str) -> Any:
        return meaning(f"{module}.{name}")  # never Python's own, which would import the module

    def load_call(self) -> None:  # REDUCE, NEWOBJ
        args = self.stack.pop()
        self.stack[-1] = self._made(self.stack[-1], args)

    def load_call_with_names(self) -> None:  # NEWOBJ_EX
        self.stack.pop()
        self.load_call()

    def _made(self, callee: Any, args: Any) -> Any:
        # find_class is the only way for a function to the stack, so it is a maker of inert_names
        if type(callee) is FunctionType:
            require(type(args) is tuple, "a call without arguments")
            return callee(*args)
        return Stub(callee.origin if type(callee) is Stub else type(callee).__name__)

    def load_state(self) -> None:  # BUILD
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is not Stub:
            return  # attributes of dicts and tensors are not wanted, and those of functions are not the file's to set
        for part in state if type(state) is tuple else (state,):
            if type(part) in (dict, OrderedDict):
                target.state.update(part)

    def load_item(self) -> None:  # APPEND
        self._extend([self.stack.pop()])

    def load_items(self) -> None:  # APPENDS, ADDITEMS
        self._extend(self.pop_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is list:
            target.extend(items)
        elif type(target) is set:
            target.update(items)
        else:
            require(type(target) is Stub, "items for what holds none")

    def load_pair(self) -> None:  # SETITEM
        value, key = self.stack.pop(), self.stack.pop()
        self._put([key, value])

    def load_pairs(self) -> None:  # SETITEMS
        self._put(self.pop_mark())

    def _put(self, flat: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) in (dict, OrderedDict):
            target.update(zip(flat[::2], flat[1::2], strict=True))
        else:
            require(type(target) is Stub, "pairs for what is no dict")

    def load_persistent(self) -> None:  # BINPERSID
        saved = self.stack.pop()
        require(type(saved) is tuple and len(saved) > 1, "a persistent id of another kind")
        if type(saved[0]) is str and saved[0] == "module":
            # (module, class, source file, source): torch would compare the sources, and may write a patch beside them
            self.append(saved[1])
            return
        require(len(saved) in (5, 6), "a persistent id of another kind")
        _, kind, key, location, numel = saved[:5]
        fits = isinstance(kind, StorageType) or kind is torch.UntypedStorage
        fits = fits and type(key) is str and type(location) is str and type(numel) is int and numel >= 0
        require(fits, "a storage without type or length")
        self.append(self.persistent_load(saved))

    def load_other(self) -> None:
        raise pickle.UnpicklingError("it uses an opcode that torch.save does not write")

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **dict.fromkeys(range(256), load_other),
        **{code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in _PLAIN.split())},
        pickle.REDUCE[0]: load_call,
        pickle.NEWOBJ[0]: load_call,
        pickle.NEWOBJ_EX[0]: load_call_with_names,
        pickle.BUILD[0]: load_state,
        pickle.APPEND[0]: load_item,
        pickle.APPENDS[0]: load_items,
        pickle.ADDITEMS[0]: load_items,
        pickle.SETITEM[0]: load_pair,
        pickle.SETITEMS[0]: load_pairs,
        pickle.BINPERSID[0]: load_persistent,
    }


def load(file: IO[bytes], **options: Any) -> Any:
    """The next pickle of a stream; torch.load reads the small ones around the main one with it."""
    return Unpickler(file, **options).load()
