"""What a Python host does with one call: find the function, read the arguments, encode how it ended."""

import asyncio
import collections.abc
import contextvars
import dataclasses
import enum
import importlib
import inspect
import json
import sys
import threading
import types
import uuid
from concurrent.futures import Future
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

import effect_ray

from . import frames, python_errors

#: The kind of a RESULT, and its body.
Ended = Tuple[int, bytes]


class _Refused(ValueError):
    """What is not JSON, in our own words."""


def _refuse(constant: str) -> None:
    raise _Refused(f"{constant} is not JSON")


_of = python_errors.type_name
_PAYLOADS = json.JSONDecoder(parse_constant=_refuse)


class Call:
    """A call that this host has: from its RUN frame until its end has been posted."""

    __slots__ = ("number", "ident", "body", "cancelled", "queued", "task", "context", "request", "payload")

    def __init__(self, number: int, ident: bytes, body: bytes) -> None:
        self.number = number
        self.ident = ident
        self.body = body
        self.cancelled = threading.Event()
        self.queued: "Optional[Future[None]]" = None
        self.task: "Optional[asyncio.Task[Any]]" = None
        self.context = contextvars.Context()
        self.request: Dict[str, Any] = {}
        self.payload: Any = None

    def read(self) -> None:
        """Reads the body of RUN: the header, a line of JSON, and the payload. Raises `ValueError` for a payload that is none."""
        header, _, payload = self.body.partition(b"\n")
        self.body = b""
        self.request = json.loads(header)
        self.payload = _PAYLOADS.decode(payload.decode())
        if self.request["keywords"] and not isinstance(self.payload, dict):
            raise _Refused("a JSON object was expected, for keyword arguments")
        execution, fence = frames.IDENT.unpack(self.ident)
        attempt = effect_ray.Attempt(
            task=self.request.get("task", ""),
            execution=str(uuid.UUID(bytes=execution)),
            fence=fence,
            attempt=self.request.get("attempt", 1),
            queue=self.request.get("queue", ""),
            traceparent=self.request.get("traceparent") or "",
            _cancelled=self.cancelled,
        )
        self.context.run(effect_ray._current.set, attempt)

    def function(self) -> Callable[..., Any]:
        """The function that the task names; its module is imported once a host."""
        found: Any = importlib.import_module(self.request["module"])
        for name in self.request["function"].split("."):
            found = getattr(found, name)
        return found

    def arguments(self) -> Tuple[Tuple[Any, ...], Dict[str, Any]]:
        """A struct as keyword arguments of the names that the task declares, anything else as the one argument."""
        keywords = self.request["keywords"]
        if keywords is None:
            return (self.payload,), {}
        return (), {name: self.payload[name] for name in keywords if name in self.payload}


def unreadable(error: BaseException) -> Ended:
    """The end of a call whose payload cannot be read."""
    return _undecodable("payload", error)


def is_awaitable(value: Any) -> bool:
    """As `inspect.isawaitable` says it, but by the value's real type: the class that a value claims is its own code."""
    kind = type(value)
    if issubclass(kind, types.GeneratorType):
        return bool(value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return issubclass(kind, collections.abc.Awaitable)


def succeeded(call: Call, value: Any, max_bytes: int) -> Ended:
    """The end of a handler that returned."""
    return _encode(frames.SUCCESS, lambda: _returned(value, call.request.get("discard", False)), max_bytes, "result")


def raised(error: BaseException, cancelled: bool, max_bytes: int) -> Ended:
    """The end of a handler that raised."""
    kind = type(error)
    if issubclass(kind, effect_ray.TaskFailure):
        return _encode(frames.FAILURE, lambda: _declared(error), max_bytes, "error")
    if cancelled and issubclass(kind, (effect_ray.Cancelled, asyncio.CancelledError)):
        return frames.INTERRUPTED, b""
    return _died(python_errors.python_error(error))


def untold(error: BaseException) -> Ended:
    """The end of a handler of which nothing can be told, because looking at it raised this."""
    detail = f"the handler has ended, but looking at its value or exception raised {python_errors.type_name(error)}"
    return _died({"_tag": "PythonError", "type": "", "detail": detail, "traceback": ""})


#: What has run no line until somebody does this with it. A handler that returns one would count as done.
_NOT_RUN = [
    (types.GeneratorType, "a generator, of which nothing has run: loop over it"),
    (types.AsyncGeneratorType, "an asynchronous generator, of which nothing has run: loop over it with `async for`"),
    (types.CoroutineType, "a coroutine that nothing awaits: await it"),
]


def _returned(value: Any, discard: bool) -> Any:
    for kind, what in _NOT_RUN:
        if issubclass(type(value), kind):
            raise _Refused(f"the function returned {what}, and return what comes of it")
    return None if discard else value


def _declared(error: Any) -> Dict[str, Any]:
    return {"_tag": error.tag, **error.fields, "_tag": error.tag}


def _encode(kind: int, value: Callable[[], Any], max_bytes: int, what: str) -> Ended:
    try:
        body = _json(value()).encode()
    except BaseException as error:
        # Among them what the methods of the value or the error raise, and a value too large for memory.
        return _undecodable(what, error)
    if len(body) > max_bytes:
        return _died({"_tag": "ResultTooLarge", "bytes": len(body), "maxBytes": max_bytes})
    return kind, body


def _json(value: Any) -> str:
    return json.dumps(_plain(value), allow_nan=False, ensure_ascii=False, separators=(",", ":"))


#: What `json` writes as it is, and so do we with what is derived from it.
_SCALARS = (str, int, float, bool, type(None))


def _plain(value: Any) -> Any:
    """The value in lists, dictionaries and scalars.

    Left to itself `json` would write two keys that are one, and some members of an `Enum` by their text. One call a level, as deep as
    payloads can be.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if issubclass(kind, enum.Enum):
        return _plain(value.value)
    is_dataclass = kind not in (list, dict) and dataclasses.is_dataclass(kind)
    items: Iterable[Tuple[Any, Any]]
    if issubclass(kind, (dict, list, tuple, *_SCALARS)):
        if is_dataclass:
            raise _Refused(f"a {_of(value)} is a dataclass and something else too: it cannot be encoded as JSON")
        if issubclass(kind, (list, tuple)):
            plain_list: List[Any] = []
            for item in value:
                plain_list.append(_plain(item))
            return plain_list
        if not issubclass(kind, dict):
            return value
        items = value.items()
    elif hasattr(value, "tolist"):
        return _plain(_listed(value))
    elif is_dataclass:
        items = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        raise _Refused(f"a {_of(value)} cannot be encoded as JSON")
    plain: Dict[str, Any] = {}
    for key, item in items:
        name = _name(key)
        if name in plain:
            raise _Refused(f"two keys of a dictionary are {name!r} in JSON")
        plain[name] = _plain(item)
    return plain


def _name(key: Any) -> str:
    """A key as JSON has it: what is not text becomes text, as `json` does it, after it became what a value would."""
    kind = type(key)
    if kind is str:
        return str(key)
    if issubclass(kind, enum.Enum):
        return _name(key.value)
    if issubclass(kind, _SCALARS) and not dataclasses.is_dataclass(kind):
        return str.__str__(key) if issubclass(kind, str) else json.dumps(key, allow_nan=False)
    if hasattr(key, "tolist"):
        return _name(_listed(key))
    raise _Refused(f"a {_of(key)} cannot be a key in JSON")


def _listed(value: Any) -> Any:
    """What NumPy's arrays and scalars hold, and what imitates them, unless the list would say less than they do."""
    dtype_kind = getattr(getattr(value, "dtype", None), "kind", None)
    if dtype_kind in ("m", "M"):
        raise _Refused(f"a {_of(value)} of dates or durations cannot be encoded as JSON, which has no units: convert it to text")
    if dtype_kind == "V":
        raise _Refused(f"a {_of(value)} of records cannot be encoded as JSON without the names of its fields: convert it to dictionaries")
    # A value of this module has imported it.
    masked_arrays = sys.modules.get("numpy.ma")
    if masked_arrays is not None and masked_arrays.is_masked(value):
        raise _Refused(f"a {_of(value)} with masked values cannot be encoded as JSON: fill them")
    # A memoryview is bytes, some scalars have no plain form, and a mock would go on for ever.
    if type(value) is memoryview or hasattr(plain := value.tolist(), "tolist"):
        raise _Refused(f"a {_of(value)} cannot be encoded as JSON")
    return plain


def _undecodable(what: str, error: BaseException) -> Ended:
    if isinstance(error, RecursionError):
        detail = "it holds itself, or is nested too deeply"
    elif isinstance(error, _Refused):
        detail = python_errors.last_words(str(error), python_errors.MAX_DETAIL_CHARS)
    else:
        detail = python_errors.words(error)
    return _died({"_tag": "Undecodable", "what": what, "detail": detail})


def _died(reason: Dict[str, Any]) -> Ended:
    # Unescaped: with twelve bytes for a character it would not fit into one frame.
    return frames.DIED, json.dumps(reason, ensure_ascii=False).encode("utf-8", "replace")
