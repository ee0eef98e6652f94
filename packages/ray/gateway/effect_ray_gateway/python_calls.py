"""What a Python host does with one call: find the function, read the arguments, encode how it ended."""

import asyncio
import collections.abc
import contextvars
import dataclasses
import enum
import importlib
import inspect
import json
import threading
import types
import uuid
from concurrent.futures import Future
from typing import Any, Callable, Dict, Optional, Tuple

import effect_ray

from . import frames, python_errors

#: The kind of a RESULT, and its body.
Ended = Tuple[int, bytes]


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


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
            raise ValueError("a JSON object was expected, for keyword arguments")
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
    return _encode(frames.SUCCESS, lambda: None if call.request.get("discard") else value, max_bytes, "result")


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
    try:
        return _dumps(value, _plain)
    except TypeError:
        # Nothing asks us about the keys of a dictionary. So all of it is converted, where it does not go without.
        return _dumps(_with_plain_keys(value), _refuse_value)


def _dumps(value: Any, default: Callable[[Any], Any]) -> str:
    return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=default)


def _plain(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if hasattr(value, "tolist"):
        # NumPy's arrays and scalars, and what imitates them. Some of the scalars, and a mock, have another `tolist` then.
        plain = value.tolist()
        return _refuse_value(value) if hasattr(plain, "tolist") else plain
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return _refuse_value(value)


def _refuse_value(value: Any) -> Any:
    raise TypeError(f"a {python_errors.type_name(value)} cannot be encoded as JSON")


_PLAIN = (str, int, float, bool, type(None))


def _with_plain_keys(value: Any) -> Any:
    if isinstance(value, dict):
        plain: Dict[str, Any] = {}
        for key, item in value.items():
            name = _name(key)
            if name in plain:
                raise ValueError(f"two keys of a dictionary are {name!r} in JSON")
            plain[name] = _with_plain_keys(item)
        return plain
    if isinstance(value, (list, tuple)):
        return [_with_plain_keys(item) for item in value]
    return value if isinstance(value, _PLAIN) else _with_plain_keys(_plain(value))


def _name(key: Any) -> str:
    """A key as JSON has it: what is no text becomes one, as `json` does it, and before that what a value would become."""
    if isinstance(key, str):
        return str.__str__(key)
    if isinstance(key, _PLAIN):
        return json.dumps(key, allow_nan=False)
    if isinstance(key, enum.Enum) or hasattr(key, "tolist"):
        return _name(_plain(key))
    raise TypeError(f"a {python_errors.type_name(key)} cannot be a key in JSON")


def _undecodable(what: str, error: BaseException) -> Ended:
    return _died({"_tag": "Undecodable", "what": what, "detail": python_errors.words(error)})


def _died(reason: Dict[str, Any]) -> Ended:
    # Unescaped: with twelve bytes for a character it would not fit into one frame.
    return frames.DIED, json.dumps(reason, ensure_ascii=False).encode("utf-8", "replace")
