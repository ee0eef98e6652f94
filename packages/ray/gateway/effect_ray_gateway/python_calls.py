"""What a Python host does with one call: find the function, read the arguments, encode how it ended."""

import asyncio
import collections.abc
import contextvars
import importlib
import inspect
import json
import threading
import types
import uuid
from concurrent.futures import Future
from typing import Any, Callable, Dict, Optional, Tuple

import effect_ray

from . import frames, python_errors, python_values
from .python_values import Refused

#: The kind of a RESULT, and its body.
Ended = Tuple[int, bytes]


def _refuse(constant: str) -> None:
    raise Refused(f"{constant} is not JSON")


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
            raise Refused("a JSON object was expected, for keyword arguments")
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
    try:
        return _encode(frames.SUCCESS, lambda: _returned(value, call.request.get("discard", False)), max_bytes)
    except BaseException as error:
        return _undecodable("result", error)


def raised(error: BaseException, cancelled: bool, max_bytes: int) -> Ended:
    """The end of a handler that raised."""
    kind = type(error)
    if issubclass(kind, effect_ray.TaskFailure):
        return _failed(error, max_bytes)
    if cancelled and issubclass(kind, (effect_ray.Cancelled, asyncio.CancelledError)):
        return frames.INTERRUPTED, b""
    return _died(python_errors.python_error(error))


def _failed(error: BaseException, max_bytes: int) -> Ended:
    # Whether it fits the error's Schema is found out by the supervisor, which then tells this too: as it stands behind a
    # line feed, of which JSON that we write has none, the supervisor parts the two without reading them.
    told = python_errors.declared_error(error)
    try:
        kind, body = _encode(frames.FAILURE, lambda: _declared(error), max_bytes)
    except BaseException as another:
        return _undecodable("error", another, told)
    return (kind, body + b"\n" + _json(told)) if kind == frames.FAILURE else (kind, body)


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
            raise Refused(f"the function returned {what}, and return what comes of it")
    return None if discard else value


def _declared(error: Any) -> Dict[str, Any]:
    try:
        return {"_tag": error.tag, **error.fields, "_tag": error.tag}
    except BaseException as another:
        name, words = python_errors.type_name(error), python_errors.words(another)
        raise Refused(f"a {name} whose tag and fields cannot be read is no declared error: {words}") from None


def _encode(kind: int, value: Callable[[], Any], max_bytes: int) -> Ended:
    """Raises `Refused`, and whatever looking at the value raises."""
    try:
        return kind, python_values.encode(value(), max_bytes)
    except python_values.TooLarge as error:
        return _died({"_tag": "ResultTooLarge", "bytes": error.size, "maxBytes": max_bytes})


def _undecodable(what: str, error: BaseException, told: str = "") -> Ended:
    """`told`: what else is to be said, which is bounded."""
    if isinstance(error, RecursionError):
        why = "it is nested too deeply"
    else:
        why = str(error) if isinstance(error, Refused) else python_errors.words(error)
    why = python_errors.shortened(why, python_errors.MAX_DETAIL_CHARS - len(told) - 1)
    return _died({"_tag": "Undecodable", "what": what, "detail": f"{why}\n{told}" if told else why})


def _died(reason: Dict[str, Any]) -> Ended:
    return frames.DIED, _json(reason)


def _json(value: Any) -> bytes:
    # Unescaped: with twelve bytes for a character it would not fit into one frame.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
