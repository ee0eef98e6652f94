"""What a handler returns, as JSON: whole, or refused with the place and the type of what JSON cannot say.

The handler's own code runs here, in properties and methods of its classes, so any exception may come out of it.
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

#: What is larger is not encoded to its end, unless the limit for results is above it: parts that others share are counted, and
#: written, once for each of them. Every value takes two bytes at least, with what stands around it or after it.
MAX_COUNTED_BYTES = 4 << 20
VALUE_BYTES = 2
#: As much of a path as an error tells, and of one key in it.
MAX_PATH_CHARS = 300
MAX_KEY_CHARS = 100
#: As much of the words of an exception that comes up on the way.
MAX_WORDS_CHARS = 800
#: The most attributes that an error names.
MAX_NAMED = 5
#: So many classes are looked through once only.
MAX_KNOWN_CLASSES = 1024

_of = python_errors.type_name

#: What `json` writes as it is, and so do we with what is derived from it.
_SCALARS = (str, int, float, bool, type(None))
_CONTAINERS = (list, tuple, dict)
#: `Py_TPFLAGS_HEAPTYPE`: without it a class is written in C.
_HEAP_TYPE = 1 << 9
#: Integers of fewer bits have their size by their bits; the decimal digits of others are counted.
_MACHINE_BITS = 64


class Refused(ValueError):
    """What is not JSON, in our own words."""


class TooLarge(ValueError):
    """It takes so many bytes, or, where that is more than are counted, at least so many."""

    def __init__(self, size: int) -> None:
        super().__init__(f"it takes {size} bytes")
        self.size = size


def encode(value: Any, max_bytes: int) -> bytes:
    """The value as JSON. Raises `Refused` for what JSON cannot say, and `TooLarge`."""
    walk = _Walk(max(max_bytes, MAX_COUNTED_BYTES))
    try:
        plain = walk.plain(value)
        body = json.dumps(plain, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except TooLarge:
        raise
    except BaseException as error:
        # Among them a value too large for memory.
        raise Refused(walk.why(error)) from None
    if len(body) > max_bytes:
        raise TooLarge(len(body))
    return body


class _Walk:
    """From a value to lists, dictionaries and scalars.

    Left to itself `json` would write two keys that are one, some members of an `Enum` by their text, and what is derived from its own
    types without what it has beside.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        #: Where an exception came up, from the inside to the outside, and the innermost class there.
        self._path: List[Union[str, int]] = []
        self._class: Optional[type] = None

    def plain(self, value: Any) -> Any:
        """One call a level, as deep as payloads can be."""
        kind = type(value)
        if kind in _SCALARS:
            return self._scalar(value)
        self._spend(VALUE_BYTES)
        at: Union[str, int, None] = None
        try:
            if kind in _CONTAINERS:
                # Most are, and have nothing beside.
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
            # Half a surrogate pair has no bytes.
            size += len(value) if value.isascii() else _utf8_bytes(value)
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise Refused(f"a {_of(value)} that is {float(value)!r} cannot be encoded as JSON")
        elif isinstance(value, int) and value.bit_length() > _MACHINE_BITS:
            size += len(int.__repr__(value))
        self._spend(size)
        return value

    def _foresee(self, value: Any) -> None:
        # Before NumPy makes a list of it: an array that repeats one number occupies no memory.
        size = getattr(value, "size", None)
        if isinstance(size, int) and self._bytes + VALUE_BYTES * size > self._max_bytes:
            raise TooLarge(self._bytes + VALUE_BYTES * size)

    def _spend(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._max_bytes:
            raise TooLarge(self._bytes)

    def why(self, error: BaseException) -> str:
        """Why it is refused, and where."""
        if isinstance(error, RecursionError):
            text = "it holds itself, or is nested too deeply"
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
    """A key as JSON has it: what is not text becomes text, as `json` does it, after it became what a value would."""
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


# What a value holds beside what JSON would have of it


def _fields(value: Any) -> Tuple[str, ...]:
    """The names of a dataclass's fields, if it holds nothing else."""
    names, foreign = _class_fields(type(value))
    if foreign is not None:
        raise Refused(f"a {_of(value)} is a dataclass and a {foreign} too: it cannot be encoded as JSON")
    _require_whole(value, names)
    return names


@functools.lru_cache(MAX_KNOWN_CLASSES)
def _class_fields(kind: type) -> Tuple[Tuple[str, ...], Optional[str]]:
    """The names of its fields, and of the class that gives it contents which Python does not show, if one does."""
    # `Generic` is in C since Python 3.12, and holds nothing.
    others = (base for base in kind.__mro__ if base not in (object, typing.Generic) and not _is_written_in_python(base))
    foreign = next((python_errors.class_name(base) for base in others), None)
    return tuple(field.name for field in dataclasses.fields(kind)), foreign


def _require_whole(value: Any, said: Any) -> None:
    """Refuses a value that has attributes of its own which are not among what is said of it."""
    kind = type(value)
    if kind in _SCALARS:
        return
    unsaid = [name for name in _attributes(value) if name not in said and not _is_computed(kind, name)]
    if unsaid:
        names = f"{', '.join(map(str, unsaid[:MAX_NAMED]))}{', …' if len(unsaid) > MAX_NAMED else ''}"
        raise Refused(f"a {_of(value)} has attributes that JSON would not have ({names}): it cannot be encoded")
    # As what `os.stat` and `time.localtime` give.
    if issubclass(kind, tuple) and getattr(kind, "n_fields", 0) > getattr(kind, "n_sequence_fields", 0):
        raise Refused(f"a {_of(value)} has fields that are not among its items: it cannot be encoded as JSON")


def _attributes(value: Any) -> Iterator[str]:
    """The names of what an instance holds by itself: those of its `__dict__` and its slots."""
    yield from getattr(value, "__dict__", None) or ()
    for name, get in _slots(type(value)):
        try:
            get(value)
        except AttributeError:
            continue
        yield name


def _is_computed(kind: type, name: str) -> bool:
    """Whether it comes of the rest, and is no data."""
    return isinstance(inspect.getattr_static(kind, name, None), functools.cached_property)


@functools.lru_cache(MAX_KNOWN_CLASSES)
def _slots(kind: type) -> "Tuple[Tuple[str, Callable[[Any], Any]], ...]":
    return tuple(
        (name, member.__get__)
        for base in kind.__mro__
        # A class in C may have such members too, which are not of this kind.
        if "__slots__" in vars(base)
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType)
    )


def _is_written_in_python(base: type) -> bool:
    # As `copyreg` tells it: of a class in C that is made like those in Python, `__new__` is its own and is in C.
    new = vars(base).get("__new__")
    return bool(base.__flags__ & _HEAP_TYPE) and not isinstance(new, types.BuiltinFunctionType)


def _listed(value: Any) -> Any:
    """What NumPy's arrays and scalars hold, and what imitates them, unless the list would say less than they do."""
    dtype_kind = getattr(getattr(value, "dtype", None), "kind", None)
    if dtype_kind in ("m", "M"):
        raise Refused(f"a {_of(value)} of dates or durations cannot be encoded as JSON, which has no units: convert it to text")
    if dtype_kind == "V":
        raise Refused(f"a {_of(value)} of records cannot be encoded as JSON without the names of its fields: convert it to dictionaries")
    # A value of this module has imported it.
    masked_arrays = sys.modules.get("numpy.ma")
    if masked_arrays is not None and masked_arrays.is_masked(value):
        raise Refused(f"a {_of(value)} with masked values cannot be encoded as JSON: fill them")
    if not _lists_itself(type(value)):
        _require_whole(value, ())
    # A memoryview is bytes, some scalars have no plain form, and a mock would go on for ever.
    if type(value) is memoryview or hasattr(plain := value.tolist(), "tolist"):
        raise Refused(f"a {_of(value)} cannot be encoded as JSON")
    return plain


def _lists_itself(kind: type) -> bool:
    """Whether the list comes from where the class does, which then knows what of its attributes belongs into it."""
    owner = next((base for base in kind.__mro__ if "tolist" in vars(base)), kind)
    return _package(owner) == _package(kind)


def _package(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]
