"""The steps of a call in a Python host: find the function, read the arguments, encode how it ended."""

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
    """A call in this host, from its RUN frame until its end has been passed on."""

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
        """Reads the body of RUN: the header, which is a line of JSON, and the payload. Raises `ValueError` if the
        payload is not valid.
        """
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
        """Returns the function that the task names. Its module is imported once per host."""
        found: Any = importlib.import_module(self.request["module"])
        for name in self.request["function"].split("."):
            found = getattr(found, name)
        return found

    def arguments(self) -> Tuple[Tuple[Any, ...], Dict[str, Any]]:
        """Returns the arguments: for a struct, keyword arguments with the names that the task declares; otherwise the
        payload as the only argument.
        """
        keywords = self.request["keywords"]
        if keywords is None:
            return (self.payload,), {}
        return (), {name: self.payload[name] for name in keywords if name in self.payload}


def unreadable(error: BaseException) -> Ended:
    """Returns the end of a call whose payload cannot be read."""
    return _undecodable("payload", error)


def is_awaitable(value: Any) -> bool:
    """Like `inspect.isawaitable`, but based on the value's real type: the class that a value claims to have is computed
    by its own code.
    """
    kind = type(value)
    if issubclass(kind, types.GeneratorType):
        return bool(value.gi_code.co_flags & inspect.CO_ITERABLE_COROUTINE)
    return issubclass(kind, collections.abc.Awaitable)


def succeeded(call: Call, value: Any, max_bytes: int) -> Ended:
    """Returns the end of a handler that returned."""
    try:
        return _encode(frames.SUCCESS, lambda: _returned(value, call.request.get("discard", False)), max_bytes)
    except BaseException as error:
        return _undecodable("result", error)


def raised(error: BaseException, cancelled: bool, max_bytes: int) -> Ended:
    """Returns the end of a handler that raised."""
    kind = type(error)
    if issubclass(kind, effect_ray.TaskFailure):
        return _failed(error, max_bytes)
    if cancelled and issubclass(kind, (effect_ray.Cancelled, asyncio.CancelledError)):
        return frames.INTERRUPTED, b""
    return _died(python_errors.python_error(error))


def _failed(error: BaseException, max_bytes: int) -> Ended:
    # The supervisor checks whether it fits the error's Schema, and if not, reports this text too. The text follows
    # after a line feed, which JSON from this function never contains, so the supervisor separates the two without
    # parsing them.
    told = python_errors.declared_error(error)
    try:
        kind, body = _encode(frames.FAILURE, lambda: _declared(error), max_bytes)
    except BaseException as another:
        return _undecodable("error", another, told)
    return (kind, body + b"\n" + _json(told)) if kind == frames.FAILURE else (kind, body)


def untold(error: BaseException) -> Ended:
    """Returns the end of a handler whose value or exception cannot be inspected, because doing so raised this error."""
    detail = f"the handler has ended, but inspecting its value or exception raised {python_errors.type_name(error)}"
    return _died({"_tag": "PythonError", "type": "", "detail": detail, "traceback": ""})


#: Values whose code has not run yet, and how to run it. A handler that returns one would count as done.
_NOT_RUN = [
    (types.GeneratorType, "a generator, which has not run: loop over it"),
    (types.AsyncGeneratorType, "an asynchronous generator, which has not run: loop over it with `async for`"),
    (types.CoroutineType, "a coroutine, which has not run: await it"),
]


def _returned(value: Any, discard: bool) -> Any:
    for kind, what in _NOT_RUN:
        if issubclass(type(value), kind):
            raise Refused(f"the function returned {what}, and return the result")
    return None if discard else value


def _declared(error: Any) -> Dict[str, Any]:
    try:
        return {"_tag": error.tag, **error.fields, "_tag": error.tag}
    except BaseException as another:
        name, words = python_errors.type_name(error), python_errors.words(another)
        raise Refused(f"a {name} whose tag and fields cannot be read is not a declared error: {words}") from None


def _encode(kind: int, value: Callable[[], Any], max_bytes: int) -> Ended:
    """Raises `Refused`, and any exception that inspecting the value raises."""
    try:
        return kind, python_values.encode(value(), max_bytes)
    except python_values.TooLarge as error:
        return _died({"_tag": "ResultTooLarge", "bytes": error.size, "maxBytes": max_bytes})


def _undecodable(what: str, error: BaseException, told: str = "") -> Ended:
    """Returns the end of a call with the reason `Undecodable`. `told` is bounded text that is added to the detail."""
    if isinstance(error, RecursionError):
        why = "it is nested too deeply"
    else:
        why = str(error) if isinstance(error, Refused) else python_errors.words(error)
    why = python_errors.shortened(why, python_errors.MAX_DETAIL_CHARS - len(told) - 1)
    return _died({"_tag": "Undecodable", "what": what, "detail": f"{why}\n{told}" if told else why})


def _died(reason: Dict[str, Any]) -> Ended:
    return frames.DIED, _json(reason)


def _json(value: Any) -> bytes:
    # Not escaped: with twelve bytes for a character it would not fit into one frame.
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
