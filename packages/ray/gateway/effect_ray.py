"""Helps Python handlers that run on Ray: `fail` raises a declared error, and `current` describes the running attempt.

    import effect_ray

    def train(rows):
        if rows < 10:
            effect_ray.fail("TooFewRows", rows=rows)
        return {"loss": 0.1}

A handler is a plain function or a coroutine function. A struct payload arrives as keyword arguments, any other payload
as the only argument. The return value is encoded as JSON, including NumPy values, enums and dataclasses.

Processes that a handler starts can import this module too. `fail` works there if the process passes exceptions back, as
those of `concurrent.futures` do. `current` does not.
"""

import contextvars
import threading
from dataclasses import dataclass, field
from typing import Any, Dict, NoReturn


class TaskFailure(Exception):
    """A declared error. `fail` raises it, and a handler may catch it."""

    def __init__(self, tag: str, fields: Dict[str, Any]) -> None:
        super().__init__(f"{tag} {fields}" if fields else tag)
        self.tag = tag
        self.fields = fields

    def __reduce__(self) -> Any:
        # In a process that a handler started, it is passed back as a pickle.
        return TaskFailure, (self.tag, self.fields)


class Cancelled(Exception):
    """Raised by a plain function when it notices that its attempt is being cancelled."""


@dataclass(frozen=True)
class Attempt:
    """The running attempt."""

    #: The name of the task.
    task: str
    #: The execution's UUID.
    execution: str
    #: The fence of the execution, which grows each time it changes owner.
    fence: int
    #: The number of the attempt, from 1.
    attempt: int
    #: The queue of the execution.
    queue: str
    #: The W3C trace context of this attempt, or an empty string.
    traceparent: str
    _cancelled: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is being cancelled. Coroutines are cancelled automatically, plain functions must check this."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises `Cancelled` if the attempt is being cancelled."""
        if self.cancelled:
            raise Cancelled()


_current: "contextvars.ContextVar[Attempt]" = contextvars.ContextVar("effect_ray_attempt")


def fail(tag: str, /, **fields: Any) -> NoReturn:
    """Ends the attempt with the declared error that has this tag. The fields must fit the error's Schema."""
    if not isinstance(tag, str) or "_tag" in fields:
        raise TypeError("effect_ray.fail takes the error's tag and its fields")
    raise TaskFailure(tag, fields)


def current() -> Attempt:
    """Returns the running attempt. Raises `LookupError` outside an attempt."""
    return _current.get()
