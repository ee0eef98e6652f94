"""For Python tasks that run on Ray: raise a declared error, and ask about the running attempt.

    import effect_ray

    def train(rows):
        if rows < 10:
            effect_ray.fail("TooFewRows", rows=rows)
        return {"loss": 0.1}

A handler is a plain function or a coroutine function. A struct payload arrives as keyword arguments, anything else as
the one argument. What it returns is encoded as JSON; NumPy values, enums and dataclasses are understood.

Processes that a handler starts can import this module too. `fail` works there where the process hands exceptions back, as those
of `concurrent.futures` do; `current` does not.
"""

import contextvars
import threading
from dataclasses import dataclass, field
from typing import Any, Dict, NoReturn


class TaskFailure(Exception):
    """The error that the task declared. Raised by `fail`; catching it is allowed."""

    def __init__(self, tag: str, fields: Dict[str, Any]) -> None:
        super().__init__(f"{tag} {fields}" if fields else tag)
        self.tag = tag
        self.fields = fields

    def __reduce__(self) -> Any:
        # Raised in a process that a handler started, it comes back by pickle.
        return TaskFailure, (self.tag, self.fields)


class Cancelled(Exception):
    """What a plain function raises when it notices that its attempt is cancelled."""


@dataclass(frozen=True)
class Attempt:
    """The running attempt."""

    task: str
    #: The execution's UUID.
    execution: str
    fence: int
    #: From 1.
    attempt: int
    queue: str
    #: The W3C trace context of this attempt, or an empty text.
    traceparent: str
    _cancelled: threading.Event = field(default_factory=threading.Event, repr=False, compare=False)

    @property
    def cancelled(self) -> bool:
        """Whether the attempt is being cancelled. Coroutines are cancelled by themselves, plain functions have to look."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raises `Cancelled` when the attempt is being cancelled."""
        if self.cancelled:
            raise Cancelled()


_current: "contextvars.ContextVar[Attempt]" = contextvars.ContextVar("effect_ray_attempt")


def fail(tag: str, /, **fields: Any) -> NoReturn:
    """Ends the attempt with the declared error of that tag. Fields must fit the error's Schema."""
    if not isinstance(tag, str) or "_tag" in fields:
        raise TypeError("effect_ray.fail takes the error's tag and its fields")
    raise TaskFailure(tag, fields)


def current() -> Attempt:
    """The running attempt. Raises `LookupError` outside of one."""
    return _current.get()
