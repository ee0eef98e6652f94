"""Encodes what a handler returns as JSON. Values that JSON cannot represent completely are refused, with their place
and type.

This calls the handler's own code in properties and methods of its classes, so any exception may occur.
"""

import dataclasses
import enum
import functools
import inspect
import json
import math
import sys
import types
import typing
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

from . import python_errors

#: How many bytes are counted before encoding stops, unless the limit for results is higher. Shared parts are counted
#: and written once for each reference. Every value takes at least two bytes, including the separators around it.
MAX_COUNTED_BYTES = 4 << 20
VALUE_BYTES = 2
#: How many characters of a path, and of one key in it, an error has.
MAX_PATH_CHARS = 300
MAX_KEY_CHARS = 100
#: How many characters of an exception that occurs during encoding an error has.
MAX_WORDS_CHARS = 800
#: How many attributes an error names.
MAX_NAMED = 5
#: How many classes are remembered, so that they are examined only once.
MAX_KNOWN_CLASSES = 1024

_of = python_errors.type_name

#: The types that `json` writes directly. Their subclasses are written in the same way.
_SCALARS = (str, int, float, bool, type(None))
_CONTAINERS = (list, tuple, dict)
#: `Py_TPFLAGS_HEAPTYPE`: a class without it is written in C.
_HEAP_TYPE = 1 << 9
#: The size of integers with fewer bits is known. The decimal digits of others are counted.
_MACHINE_BITS = 64


class Refused(ValueError):
    """A value is not JSON. The message describes why."""


class TooLarge(ValueError):
    """The value takes `size` bytes, or more if counting stopped there."""

    def __init__(self, size: int) -> None:
        super().__init__(f"it takes {size} bytes")
        self.size = size


def encode(value: Any, max_bytes: int) -> bytes:
    """Returns the value as JSON. Raises `Refused` if JSON cannot represent it, and `TooLarge`."""
    walk = _Walk(max(max_bytes, MAX_COUNTED_BYTES))
    try:
        plain = walk.plain(value)
        body = json.dumps(plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except TooLarge:
        raise
    except BaseException as error:
        # Includes a value that is too large for memory.
        raise Refused(walk.why(error)) from None
    if len(body) > max_bytes:
        raise TooLarge(len(body))
    return body


class _Walk:
    """Converts a value to lists, dictionaries and scalars.

    Without this, `json` would write two keys that are the same in JSON, would write some members of an `Enum` as their
    text, and would drop the additional contents of subclasses of its own types.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        #: Where an exception occurred, from the inside to the outside, and the innermost class there.
        self._path: List[Union[str, int]] = []
        self._class: Optional[type] = None

    def plain(self, value: Any) -> Any:
        """Converts a value with one call per level, as deep as payloads can be."""
        kind = type(value)
        if kind in _SCALARS:
            return self._scalar(value)
        self._spend(VALUE_BYTES)
        at: Union[str, int, None] = None
        try:
            if kind in _CONTAINERS:
                # Most values are of these types, and have no other contents.
                pass
            elif issubclass(kind, enum.Enum):
                return self.plain(value.value)
            elif dataclasses.is_dataclass(kind):
                by_field: Dict[str, Any] = {}
                for name in _fields(value):
                    at = name
                    self._spend(VALUE_BYTES + len(name))
                    by_field[name] = self.plain(getattr(value, name))
                return by_field
            elif issubclass(kind, _SCALARS):
                _require_whole(value, ())
                return self._scalar(value)
            if issubclass(kind, (list, tuple)):
                if kind not in _CONTAINERS:
                    _require_whole(value, ())
                plain_list: List[Any] = []
                for at, item in enumerate(value):
                    plain_list.append(self.plain(item))
                return plain_list
            if issubclass(kind, dict):
                if kind not in _CONTAINERS:
                    _require_whole(value, value)
                plain: Dict[str, Any] = {}
                for key, item in value.items():
                    at = None
                    name = _name(key)
                    if name in plain:
                        raise Refused(f"two keys of a dictionary are {python_errors.shortened(name, MAX_KEY_CHARS)!r} in JSON")
                    at = name
                    self._spend(VALUE_BYTES + len(name))
                    plain[name] = self.plain(item)
                return plain
            if hasattr(value, "tolist"):
                self._foresee(value)
                return self.plain(_listed(value))
            raise Refused(f"a {_of(value)} cannot be encoded as JSON")
        except BaseException:
            if self._class is None:
                self._class = kind
            if at is not None:
                self._path.append(at)
            raise

    def _scalar(self, value: Any) -> Any:
        size = VALUE_BYTES
        if isinstance(value, str):
            # Half a surrogate pair cannot be encoded.
            size += len(value) if value.isascii() else _utf8_bytes(value)
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise Refused(f"a {_of(value)} that is {float(value)!r} cannot be encoded as JSON")
        elif isinstance(value, int) and value.bit_length() > _MACHINE_BITS:
            size += len(int.__repr__(value))
        self._spend(size)
        return value

    def _foresee(self, value: Any) -> None:
        # Checked before NumPy makes a list: an array that repeats one number occupies no memory.
        size = getattr(value, "size", None)
        if isinstance(size, int) and self._bytes + VALUE_BYTES * size > self._max_bytes:
            raise TooLarge(self._bytes + VALUE_BYTES * size)

    def _spend(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._max_bytes:
            raise TooLarge(self._bytes)

    def why(self, error: BaseException) -> str:
        """Returns why the value is refused, and where."""
        if isinstance(error, RecursionError):
            text = "it contains itself, or is nested too deeply"
        elif isinstance(error, Refused):
            text = str(error)
        else:
            words = python_errors.shortened(python_errors.words(error), MAX_WORDS_CHARS)
            of = "it" if self._class is None else f"a {python_errors.class_name(self._class)}"
            text = f"{of} cannot be encoded as JSON: {words}"
        path = "".join(f"[{_shown(at) if isinstance(at, str) else at}]" for at in reversed(self._path))
        return f"{text}\n  at {python_errors.shortened(path, MAX_PATH_CHARS)}" if path else text


def _utf8_bytes(text: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise Refused(f"a {_of(text)} with half a surrogate pair cannot be encoded as JSON") from None


def _shown(key: str) -> str:
    return json.dumps(python_errors.shortened(key, MAX_KEY_CHARS), ensure_ascii=False)


def _name(key: Any) -> str:
    """Returns a key as JSON has it. It is converted like a value, and then to a string as `json` does it."""
    kind = type(key)
    if kind is str:
        return str(key)
    if issubclass(kind, enum.Enum):
        return _name(key.value)
    if issubclass(kind, _SCALARS) and not dataclasses.is_dataclass(kind):
        _require_whole(key, ())
        if issubclass(kind, str):
            return str.__str__(key)
        if issubclass(kind, float) and not math.isfinite(key):
            raise Refused(f"a {_of(key)} that is {float(key)!r} cannot be a key in JSON")
        return json.dumps(key)
    if hasattr(key, "tolist"):
        return _name(_listed(key))
    raise Refused(f"a {_of(key)} cannot be a key in JSON")


# Contents of a value that JSON would not have


def _fields(value: Any) -> Tuple[str, ...]:
    """Returns the names of a dataclass's fields. Raises `Refused` if it has other contents."""
    names, foreign = _class_fields(type(value))
    if foreign is not None:
        raise Refused(f"a {_of(value)} is a dataclass and a {foreign} too: it cannot be encoded as JSON")
    _require_whole(value, names)
    return names


@functools.lru_cache(MAX_KNOWN_CLASSES)
def _class_fields(kind: type) -> Tuple[Tuple[str, ...], Optional[str]]:
    """Returns the names of its fields. Also returns the name of a base class whose contents Python does not show, if
    there is one.
    """
    # `Generic` is written in C since Python 3.12, but has no contents.
    others = (base for base in kind.__mro__ if base not in (object, typing.Generic) and not _is_written_in_python(base))
    foreign = next((python_errors.class_name(base) for base in others), None)
    return tuple(field.name for field in dataclasses.fields(kind)), foreign


def _require_whole(value: Any, said: Any) -> None:
    """Refuses a value with attributes that are not in `said`, the names that JSON will have."""
    kind = type(value)
    if kind in _SCALARS:
        return
    unsaid = [name for name in _attributes(value) if name not in said and not _is_computed(kind, name)]
    if unsaid:
        names = f"{', '.join(map(str, unsaid[:MAX_NAMED]))}{', …' if len(unsaid) > MAX_NAMED else ''}"
        raise Refused(f"a {_of(value)} has attributes that JSON would not have ({names}): it cannot be encoded")
    # For instance the results of `os.stat` and `time.localtime`.
    if issubclass(kind, tuple) and getattr(kind, "n_fields", 0) > getattr(kind, "n_sequence_fields", 0):
        raise Refused(f"a {_of(value)} has fields that are not among its items: it cannot be encoded as JSON")


def _attributes(value: Any) -> Iterator[str]:
    """Yields the names of an instance's own attributes: those in its `__dict__` and its slots."""
    yield from getattr(value, "__dict__", None) or ()
    for name, get in _slots(type(value)):
        try:
            get(value)
        except AttributeError:
            continue
        yield name


def _is_computed(kind: type, name: str) -> bool:
    """Whether the attribute is computed from other ones, and so is not data."""
    return isinstance(inspect.getattr_static(kind, name, None), functools.cached_property)


@functools.lru_cache(MAX_KNOWN_CLASSES)
def _slots(kind: type) -> "Tuple[Tuple[str, Callable[[Any], Any]], ...]":
    return tuple(
        (name, member.__get__)
        for base in kind.__mro__
        # A class written in C may have such members that are not slots.
        if "__slots__" in vars(base)
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType)
    )


def _is_written_in_python(base: type) -> bool:
    # As in `copyreg`: a class in C that is made like those in Python has its own `__new__`, which is written in C.
    new = vars(base).get("__new__")
    return bool(base.__flags__ & _HEAP_TYPE) and not isinstance(new, types.BuiltinFunctionType)


def _listed(value: Any) -> Any:
    """Returns the contents of NumPy's arrays and scalars, and of similar types. Raises `Refused` if the list would lose
    a part.
    """
    dtype_kind = getattr(getattr(value, "dtype", None), "kind", None)
    if dtype_kind in ("m", "M"):
        raise Refused(f"a {_of(value)} of dates or durations cannot be encoded as JSON, which has no units: convert it to text")
    if dtype_kind == "V":
        raise Refused(f"a {_of(value)} of records cannot be encoded as JSON without the names of its fields: convert it to dictionaries")
    # If the value is of this module, the module has been imported.
    masked_arrays = sys.modules.get("numpy.ma")
    if masked_arrays is not None and masked_arrays.is_masked(value):
        raise Refused(f"a {_of(value)} with masked values cannot be encoded as JSON: fill them")
    if not _lists_itself(type(value)):
        _require_whole(value, ())
    # A memoryview is bytes, some scalars cannot be converted, and a mock would continue forever.
    if type(value) is memoryview or hasattr(plain := value.tolist(), "tolist"):
        raise Refused(f"a {_of(value)} cannot be encoded as JSON")
    return plain


def _lists_itself(kind: type) -> bool:
    """Whether `tolist` is from the same package as the class. It then includes the attributes that belong to the list."""
    owner = next((base for base in kind.__mro__ if "tolist" in vars(base)), kind)
    return _package(owner) == _package(kind)


def _package(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]
