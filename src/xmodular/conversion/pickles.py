"""Read a pickle as data: nothing that it names is imported, nothing in it is called.

A pickle is a program for a small stack machine (https://docs.python.org/3/library/pickletools.html), which names
functions and calls them. Here it runs on a machine of our own, in which every name becomes a stand-in that stores its
arguments, except the few names that tensors need. No step takes more time or memory than its own bytes allow:
containers are passed by reference, and only text and small numbers are hashed, compared or printed in full.
(A few hundred bytes can describe a tuple of tuples with 2^50 leaves; hashing it would never finish.)
"""

from __future__ import annotations

import mmap
import pickle
import pickletools
import reprlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import torch

from xmodular.conversion.stored import Storage, StoredTensor

_MOST_BYTES = 2**25  # the largest release needs 1.2 MiB, an optimiser's state a few more
_MOST_BITS = 1024  # of a whole number; random-number generators have the widest
_MOST_KEY = 2**61 - 1  # from here on different numbers have the same hash, which makes tables slow
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
# The steps that push their argument, and those that push a constant or an empty container.
_ARGUMENTS = (
    {"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"}
    | {"STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
    | {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


@dataclass(frozen=True, eq=False, slots=True)
class _Name:
    """A function or class that the pickle names."""

    kind: str


@dataclass(eq=False, slots=True, repr=False)
class StandIn:
    """Stands for an object of a class, or the result of a function, that the pickle names, and stores its arguments.

    Attributes:
        kind: the name in the file, such as "argparse.Namespace".
        args: arguments of the call.
        state: what the file sets as the object's state.
    """

    kind: str
    args: tuple[Any, ...]
    state: Any = None

    def __repr__(self) -> str:
        return f"<{self.kind}>"


def shown(value: Any) -> str:
    """A value from a pickle as short text: text and numbers as they are, for all others only their type."""
    return reprlib.repr(value) if isinstance(value, str | int | float | None) else f"<{kind_of(value)}>"


def kind_of(value: Any) -> str:
    """The type of a value from a pickle, or the class that the file names."""
    return f"{value.kind:.80}" if isinstance(value, StandIn | _Name) else type(value).__name__


def read_pickle(stream: BinaryIO, file: mmap.mmap) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle; the stream is left at its end.

    Args:
        stream: a stream at the start of the pickle.
        file: the whole file, which contains the storages.

    Returns:
        What was pickled: lists, tuples, tables (by text and numbers below 2^61), text, bytes, numbers, `StoredTensor`
        for tensors and `StandIn` for all else; and the storages by their keys.

    Raises:
        UnpicklingError: the pickle has something that is never in a checkpoint.
        Exception: damaged bytes can raise any exception.
    """
    machine, start = _Machine(file), stream.tell()
    for opcode, argument, place in pickletools.genops(stream):
        # Every step has a byte at least, so no memo has a number beyond them.
        size = int(place or 0) - start
        if size > _MOST_BYTES:
            raise pickle.UnpicklingError(f"a pickle has more than {_MOST_BYTES:,} bytes")
        if "PUT" in opcode.name and not 0 <= int(argument or 0) <= size:
            raise pickle.UnpicklingError(f"a memo has the number {shown(argument)}")
        machine.step(opcode.name, argument)
    return machine.stack.pop(), machine.storages


def _key(value: Any) -> Any:
    """A key of a table, unchanged; only values that can be hashed quickly are allowed."""
    if isinstance(value, str | None) or (isinstance(value, int) and abs(value) < _MOST_KEY):
        return value
    raise pickle.UnpicklingError(f"a table has the key {shown(value)}; only text and numbers below 2^61 can be read")


class _Machine:
    """The stack machine of pickles, its calls taken out."""

    def __init__(self, file: mmap.mmap) -> None:
        self.stack: list[Any] = []
        self.storages: dict[str, Storage] = {}
        self._below: list[list[Any]] = []  # the stacks below each mark
        self._memo: dict[int, Any] = {}
        self._file = file

    def step(self, name: str, argument: Any) -> None:
        """Do one step: its name in `pickletools`, and its argument."""
        stack = self.stack
        if name in _ARGUMENTS:
            if isinstance(argument, int) and argument.bit_length() > _MOST_BITS:
                raise pickle.UnpicklingError(f"a whole number has {argument.bit_length()} bits")
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "MARK":
            self._below.append(stack)
            self.stack = []
        elif name in ("PROTO", "FRAME", "STOP"):
            pass
        elif name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "DUP":
            stack.append(stack[-1])
        elif name == "POP" and stack:
            stack.pop()
        elif name in ("POP", "POP_MARK"):
            self._marked()
        elif not (self._build(name) or self._fill(name) or self._call(name, argument)):
            raise pickle.UnpicklingError(f"it has the step {name}, which torch.save never writes")

    def _marked(self) -> list[Any]:
        """What was pushed since the last mark."""
        items, self.stack = self.stack, self._below.pop()
        return items

    def _popped(self, count: int) -> list[Any]:
        """The last few of the stack."""
        items = self.stack[-count:]
        if len(items) < count:
            raise pickle.UnpicklingError("it takes more from its stack than it contains")
        del self.stack[-count:]
        return items

    def _build(self, name: str) -> bool:
        """Steps that make a container."""
        made: Any
        if name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            made = tuple(self._popped(int(name[-1])))
        elif name == "TUPLE":
            made = tuple(self._marked())
        elif name == "EMPTY_LIST":
            made = []
        elif name == "LIST":
            made = self._marked()
        elif name == "EMPTY_DICT":
            made = {}
        elif name == "DICT":
            made = {}
            _set_items(made, self._marked())
        elif name in ("EMPTY_SET", "FROZENSET"):  # members would have to be hashed; nobody reads them
            if name == "FROZENSET":
                self._marked()
            made = StandIn("builtins.set", ())
        else:
            return False
        self.stack.append(made)
        return True

    def _fill(self, name: str) -> bool:
        """Steps that put something into a container; stand-ins drop it, as no field is needed from there."""
        if name in ("SETITEM", "APPEND"):
            items = self._popped(2 if name == "SETITEM" else 1)
        elif name in ("SETITEMS", "APPENDS", "ADDITEMS"):
            items = self._marked()
        else:
            return False
        into = self.stack[-1]
        if isinstance(into, dict) and name.startswith("SET"):
            _set_items(into, items)
        elif isinstance(into, list) and name.startswith("APPEND"):
            into.extend(items)
        elif not isinstance(into, StandIn):
            raise pickle.UnpicklingError(f"it fills a {kind_of(into)} by {name}")
        return True

    def _call(self, name: str, argument: Any) -> bool:
        """Steps that name something, call it, or set its state."""
        if name == "GLOBAL":
            self.stack.append(_Name(str(argument).replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            module, of = self._popped(2)
            if not isinstance(module, str) or not isinstance(of, str):
                raise pickle.UnpicklingError("it has a name that is not text")
            self.stack.append(_Name(f"{module}.{of}"))
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX"):
            callee, args, *_ = self._popped(3 if name == "NEWOBJ_EX" else 2)
            self.stack.append(_called(callee, args))
        elif name == "OBJ":
            callee, *rest = self._marked()
            self.stack.append(_called(callee, tuple(rest)))
        elif name == "INST":
            self.stack.append(_called(_Name(str(argument).replace(" ", ".", 1)), tuple(self._marked())))
        elif name == "BUILD":
            (state,) = self._popped(1)
            built = self.stack[-1]
            if isinstance(built, StandIn):
                built.state = state
            elif not isinstance(built, dict):  # of tables (a state dict's metadata) it is dropped
                raise pickle.UnpicklingError(f"it sets the state of a {kind_of(built)}")
        elif name == "BINPERSID":
            self.stack.append(self._storage(self.stack.pop()))
        else:
            return False
        return True

    def _storage(self, pid: Any) -> Storage:
        if not isinstance(pid, tuple) or len(pid) not in (5, 6) or pid[0] != "storage" or pid[5:] not in ((), (None,)):
            raise pickle.UnpicklingError("it refers to something that is not a storage")
        kind, key, numel = pid[1], pid[2], pid[4]
        dtype = _DTYPES.get(kind.kind.removeprefix("torch.")) if isinstance(kind, _Name) else None
        if dtype is None or not isinstance(key, str) or type(numel) is not int or numel < 0:
            raise pickle.UnpicklingError(f"the storage {shown(key)} has no size, or an unknown type of numbers")
        storage = self.storages.setdefault(key, Storage(self._file, dtype, numel))
        if (storage.dtype, storage.numel) != (dtype, numel):
            raise pickle.UnpicklingError(f"the storage {shown(key)} has two types or sizes")
        return storage


def _set_items(table: dict[Any, Any], items: list[Any]) -> None:
    """Put keys and values, one after the other, into a table."""
    for key, value in zip(items[::2], items[1::2], strict=True):
        table[_key(key)] = value


def _called(callee: Any, args: Any) -> Any:
    """What a call gives here."""
    if not isinstance(args, tuple):
        raise pickle.UnpicklingError(f"it calls something with a {kind_of(args)} for arguments")
    if isinstance(callee, StandIn):  # a call of a stand-in returns the stand-in
        return callee
    if not isinstance(callee, _Name):
        raise pickle.UnpicklingError(f"it calls a {kind_of(callee)}")
    if callee.kind == "collections.OrderedDict" and not args:
        return {}
    if callee.kind in ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"):
        if len(args) < 4 or not isinstance(args[0], Storage) or not all(isinstance(each, tuple) for each in args[2:4]):
            raise pickle.UnpicklingError("a tensor without a storage, a shape or strides")
        return StoredTensor(*args[:4])
    if callee.kind == "torch._utils._rebuild_parameter" and args:
        return args[0]
    return StandIn(callee.kind, args)
