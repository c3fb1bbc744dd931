"""Plain data out of pickle files, without running them.

The official CIFAR and downsampled ImageNet files are pickles of a dictionary with
lists of labels and one array. A pickle is a program for a stack machine, and the
standard reader runs it, whatever it calls. Here the opcodes are only *interpreted as
data*: numbers, texts, bytes, lists, tuples, sets and dictionaries are built, and what
NumPy writes for an array is recognised by name and rebuilt by hand from its bytes, as
are the names of Python's own containers. Nothing is imported and nothing is called;
everything else is refused.

Strings of Python 2 come as text of the code points 0 to 255, one a byte.
"""

import io
import pickletools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from jnas import errors

__all__ = ["read"]

# Deeper nesting than any data file has; a deep one would exhaust Python's own stack.
DEEPEST = 100
_MARK = object()


class _Name:
    """A global that was named, not imported."""

    def __init__(self, module: str, name: str):
        self.text = f"{module}.{name}"


class _Array:
    """An array, a dtype or a scalar whose pieces are still being told."""

    def __init__(self, kind: str, value: Any = None):
        self.kind, self.value = kind, value


class _RefusedError(Exception):
    """What is no plain data."""


def read(content: bytes, what: str = "file") -> Any:
    r"""Returns the data that a pickle holds.

    Args:
      content: a pickle of any protocol from 0 to 5.
      what: what messages call it.

    Returns:
      Dictionaries (ordered ones and those with defaults as plain ones), lists, tuples,
      sets, texts, bytes, numbers, None and NumPy arrays of numbers, in any combination.

    Raises:
      JnasError: the pickle is damaged, or holds anything else; nothing of it was run.

    Example:
      >>> read(b"(dS'labels'\n(lI3\naI1\nas.")
      {'labels': [3, 1]}
      >>> read(b"cos\nsystem\n(S'true'\ntR.")  # doctest: +ELLIPSIS
      Traceback (most recent call last):
        ...
      jnas.errors.JnasError: file is refused: at byte 0 it names os.system, ...
    """
    machine = _Machine()
    position = 0
    try:
        with warnings.catch_warnings():
            # An odd escape in a text is damage or harmless, no news to the user.
            warnings.simplefilter("ignore")
            for opcode, argument, place in pickletools.genops(io.BytesIO(content)):
                position = place or 0
                if opcode.name == "STOP":
                    return machine.result()
                machine.step(opcode.name, argument)
    except _RefusedError as error:
        raise errors.JnasError(
            f"{what} is refused: at byte {position} it {error}, and only plain data "
            "and NumPy arrays are read, nothing is run"
        ) from None
    # Damage anywhere: wrong arguments, an empty stack, memory never stored.
    except (
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        AttributeError,
        OverflowError,
        MemoryError,
        RecursionError,
    ) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise errors.JnasError(
            f"{what} is damaged or no pickle (byte {position}: {reason}): fetch it "
            "again"
        ) from error
    raise errors.JnasError(f"{what} is damaged: it has no end: fetch it again")


class _Machine:
    """The stack and the memory of one pickle."""

    def __init__(self):
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        """Does one opcode."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in _MEMORY:
            self.memory[len(self.memory) if argument is None else int(argument)] = (
                self.stack[-1]
            )
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.stack.append(self.memory[int(argument)])
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise _RefusedError(f"has the opcode {name}")

    def result(self) -> Any:
        """What is left at the end."""
        (value,) = self.stack
        return _finished(value, {})

    def pop_to_mark(self) -> list[Any]:
        """Takes what was pushed since the last mark."""
        items = []
        while (item := self.stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def tuple_of(self, count: int) -> None:
        """Replaces the top of the stack by a tuple of it."""
        items = tuple(self.stack[-count:])
        if len(items) != count or any(item is _MARK for item in items):
            raise IndexError("too little on the stack")
        self.stack[-count:] = [items]

    def append(self, items: list[Any]) -> None:
        """Adds to the list below."""
        self._top(list).extend(items)

    def store(self, items: list[Any]) -> None:
        """Adds to the dictionary below."""
        if len(items) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(items[::2], items[1::2], strict=True):
            parts = key if isinstance(key, tuple) else (key,)
            if not all(isinstance(part, str | bytes | int) for part in parts):
                raise TypeError("a key that is no text, bytes, number or some of them")
            self._top(dict)[key] = value

    def add(self, items: list[Any]) -> None:
        """Adds to the set below."""
        self._top(set).update(items)

    def _top(self, kind: type) -> Any:
        top = self.stack[-1]
        if type(top) is not kind:
            raise TypeError(f"no {kind.__name__} where one is needed")
        return top

    def name(self, argument: str | None) -> None:
        """Notes the name of a global."""
        if argument is None:  # STACK_GLOBAL
            name, module = self.stack.pop(), self.stack.pop()
        else:
            module, _, name = argument.partition(" ")
        found = f"{module}.{name}"
        if not any(found in known for known in (_CALLS, _CLASSES, _DEFAULTS)):
            raise _RefusedError(f"names {found}"[:200])
        self.stack.append(_Name(str(module), str(name)))

    def call(self) -> None:
        """Recognises a call that makes plain data."""
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name) or function.text not in _CALLS:
            raise _RefusedError("calls what is no function of arrays")
        if not isinstance(arguments, tuple):
            raise TypeError("a call without arguments")
        self.stack.append(_CALLS[function.text](*arguments))

    def build(self) -> None:
        """Gives an array or a dtype its contents."""
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Array):
            raise _RefusedError("sets the state of what is no array")
        if target.kind == "dtype":
            _build_dtype(target, state)
        else:
            _build_array(target, state)


def _reconstruct(cls: Any, shape: Any, code: Any) -> _Array:
    del shape, code
    if not isinstance(cls, _Name) or cls.text not in _CLASSES:
        raise _RefusedError("makes an array of an unknown class")
    return _Array("array")


def _dtype(code: Any, align: Any = 0, copy: Any = 0) -> _Array:
    del align, copy
    dtype = np.dtype(code) if type(code) is str else None
    if dtype is None or dtype.kind not in "biuf" or dtype.fields is not None:
        raise _RefusedError(f"has the dtype {code!r}"[:100])
    return _Array("dtype", dtype)


def _build_dtype(target: _Array, state: Any) -> None:
    # (version, byte order, sub-array, names, fields, itemsize, alignment[, flags])
    order, *rest = state[1:5]
    if order not in ("<", ">", "|", "=") or any(value is not None for value in rest):
        raise _RefusedError("has a dtype that is no plain number")
    if order in "<>":
        target.value = target.value.newbyteorder(order)


def _build_array(target: _Array, state: Any) -> None:
    # (version, shape, dtype, whether in Fortran's order, bytes)
    version, shape, dtype, fortran, content = state
    del version
    target.value = _array(content, dtype, shape, "F" if fortran else "C")


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    return _Array("array", _array(content, dtype, shape, order))


def _array(content: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Array) or dtype.kind != "dtype":
        raise TypeError("an array without a dtype")
    if isinstance(content, _Array):
        content = content.value
    if isinstance(content, str):
        content = content.encode("latin-1")
    if not isinstance(content, bytes | bytearray):
        raise TypeError("an array without bytes")
    if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
        raise TypeError("an array without a shape")
    if order not in ("C", "F"):
        raise ValueError("an array in an unknown order")
    return np.frombuffer(content, dtype.value).reshape(shape, order=order)


def _scalar(dtype: Any, content: Any) -> int | float:
    return _array(content, dtype, (), "C").item()


def _encode(text: Any, encoding: Any) -> bytes:
    if encoding != "latin1" or not isinstance(text, str):
        raise _RefusedError("encodes text")
    return text.encode("latin-1")


def _bytes(content: Any = b"", encoding: Any = "latin-1") -> bytes:
    if isinstance(content, str) and encoding in ("latin-1", "latin1"):
        return content.encode("latin-1")
    if not isinstance(content, bytes | bytearray):
        raise TypeError("bytes of what is no text")
    return bytes(content)


def _ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    # Python 2 gives the items as an argument, Python 3 with opcodes that follow.
    machine = _Machine()
    machine.stack.append({})
    machine.store([item for key, value in pairs for item in (key, value)])
    return machine.stack[0]


def _default_dict(default: Any = None) -> dict[Any, Any]:
    if default is not None and getattr(default, "text", None) not in _DEFAULTS:
        raise _RefusedError("makes a dictionary with an unknown default")
    return {}


def _set(items: Any = ()) -> set[Any]:
    if not isinstance(items, list | tuple):
        raise TypeError("a set of what is no list")
    return set(items)


def _finished(value: Any, done: dict[int, Any], depth: int = 0) -> Any:
    """Replaces arrays in the making by arrays, and refuses what is unfinished.

    What was met before is in `done`: a small file can name one list a billion times.
    """
    if depth > DEEPEST:
        raise ValueError(f"nested deeper than {DEEPEST}")
    if value is None or isinstance(value, _PLAIN):
        return value
    if id(value) not in done:
        deeper = depth + 1
        if isinstance(value, dict):
            found: Any = {k: _finished(v, done, deeper) for k, v in value.items()}
        elif isinstance(value, list | tuple | set):
            found = type(value)(_finished(item, done, deeper) for item in value)
        elif isinstance(value, _Array) and isinstance(value.value, np.ndarray):
            found = value.value
        else:
            raise ValueError("an unfinished object")
        done[id(value)] = found
    return done[id(value)]


_PLAIN = (str, bytes, bytearray, int, float)
# Opcodes that push their argument.
_LITERALS = frozenset(
    """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING
    SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 UNICODE BINUNICODE
    SHORT_BINUNICODE BINUNICODE8
    """.split()  # noqa: SIM905
)
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_SET": set,
    "MARK": lambda: _MARK,
}
_MEMORY = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "DICT": lambda machine, _: _dict(machine),
    "APPEND": lambda machine, _: machine.append([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "ADDITEMS": lambda machine, _: machine.add(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.store(_pair(machine)),
    "SETITEMS": lambda machine, _: machine.store(machine.pop_to_mark()),
    "GLOBAL": lambda machine, argument: machine.name(argument),
    "STACK_GLOBAL": lambda machine, _: machine.name(None),
    "REDUCE": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.build(),
}
_CLASSES = frozenset(("numpy.ndarray",))
# What a dictionary may have as default: told, never used.
_DEFAULTS = frozenset(
    f"{module}.{name}"
    for module in ("builtins", "__builtin__")
    for name in ("list", "dict", "set", "int", "float", "str")
)
_CALLS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "builtins.bytes": _bytes,
    "__builtin__.bytes": _bytes,
    "builtins.bytearray": _bytes,
    "__builtin__.bytearray": _bytes,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
}
for _package in ("numpy.core", "numpy._core"):
    _CALLS[f"{_package}.multiarray._reconstruct"] = _reconstruct
    _CALLS[f"{_package}.multiarray.scalar"] = _scalar
    _CALLS[f"{_package}.numeric._frombuffer"] = _from_buffer


def _pair(machine: _Machine) -> list[Any]:
    value, key = machine.stack.pop(), machine.stack.pop()
    return [key, value]


def _dict(machine: _Machine) -> None:
    items = machine.pop_to_mark()
    machine.stack.append({})
    machine.store(items)
