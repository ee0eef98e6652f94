"""The Python host. Plain functions run in threads, coroutine functions on the main thread's loop, and the socket has
its own thread.

The host runs in the Ray actor's process, so handlers may use `ray`. A plain function cannot be stopped from outside: if
it does not end within its grace, it is reported as lost, and the whole process is replaced.
"""

import asyncio
import contextlib
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, Optional, Set, Tuple

from . import python_calls, python_errors
from .host_client import Client
from .python_calls import Call

DEFAULT_CONCURRENCY = 1
DEFAULT_MAX_RESULT_BYTES = 2 << 20
#: How long a module may take to be imported. This does not count as the task's time, and nothing else limits it.
IMPORT_SECONDS = 120


#: What a handler returned, and what it raised if it did.
Settled = Tuple[Any, Optional[BaseException]]


def run(orders: Dict[str, Any]) -> Dict[str, str]:
    """Runs the host until its connection ends. Called on the actor's main thread."""
    loop = HandlersLoop()
    asyncio.set_event_loop(loop)
    end_by_sigterm()
    return loop.run_until_complete(_main(orders))


async def _main(orders: Dict[str, Any]) -> Dict[str, str]:
    host = PythonHost(orders, asyncio.get_running_loop())
    host.client.start()
    await host.over.wait()
    # Tasks that handlers left behind can clean up, as with `asyncio.run`.
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    return {"kind": "terminated", "detail": "the gateway sent the host away"}


class HandlersLoop(asyncio.SelectorEventLoop):
    """Continues when a task or a callback of a handler exits. Asyncio would end the loop, which other handlers share."""

    def __init__(self) -> None:
        super().__init__()
        self._pid = os.getpid()

    def run_forever(self) -> None:
        while True:
            try:
                return super().run_forever()
            except (SystemExit, KeyboardInterrupt) as error:
                end_if_forked(self._pid)
                # Code that awaits the task receives the exception as well.
                told = python_errors.python_error(error)
                with contextlib.suppress(OSError):
                    print(f"a task or a callback of a handler exited:\n{told['traceback']}", file=sys.stderr, flush=True)


def end_by_sigterm() -> None:
    """Ends the host on SIGTERM. Ray's own handler raises `SystemExit` wherever the main thread is, which would end a
    handler's attempt instead of the host.
    """
    pid = os.getpid()

    def terminated(_number: int, _frame: Any) -> None:
        if os.getpid() == pid:
            os._exit(128 + signal.SIGTERM)
        sys.exit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, terminated)


def end_if_forked(pid: int) -> None:
    """Ends a process that a handler forked, when the handler ends in it.

    It would continue forever, and take events that wake this process's loop, because both share the descriptor.
    """
    if os.getpid() != pid:
        error = sys.exc_info()[1]
        code = error.code if isinstance(error, SystemExit) else error
        os._exit(code if isinstance(code, int) else 0 if code is None else 1)


class PythonHost:
    """The calls of this process."""

    def __init__(self, orders: Dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        # The threads share the interpreter's lock, so the useful number does not depend on the CPUs.
        slots = int(orders["placement"].get("concurrency") or DEFAULT_CONCURRENCY)
        self.over = asyncio.Event()
        self.client = Client(orders, slots, os.getpid(), self)
        self._loop = loop
        self._pid = os.getpid()
        self._threads = ThreadPoolExecutor(slots, "handler")
        self._calls: Dict[int, Call] = {}
        self._imported: Set[str] = set()
        self._max_result_bytes = orders["limits"].get("maxResultBytes", DEFAULT_MAX_RESULT_BYTES)

    # On the connection's thread

    def run(self, number: int, ident: bytes, body: bytes) -> None:
        call = self._calls[number] = Call(number, ident, body)
        call.queued = self._threads.submit(self._call, call)

    def cancel(self, number: int, grace_seconds: float) -> None:
        call = self._calls.get(number)
        if call is None:
            return
        call.cancelled.set()
        if call.queued is not None and call.queued.cancel():
            return self._end(call, (python_calls.frames.INTERRUPTED, b""))
        self._loop.call_soon_threadsafe(self._cancel_task, call)
        self.client.loop.call_later(grace_seconds, self._overdue, call)

    def _overdue(self, call: Call) -> None:
        if self._calls.pop(call.number, None) is not None:
            self.client.terminated(call.number, call.ident, "the handler did not stop within its grace")

    def _watch_import(self, call: Call, module: str) -> None:
        def give_up() -> None:
            if module not in self._imported and self._calls.pop(call.number, None) is not None:
                detail = f"the module {module} was not imported within {IMPORT_SECONDS:g} s"
                self.client.terminated(call.number, call.ident, detail)

        self.client.loop.call_later(IMPORT_SECONDS, give_up)

    def ended(self, orderly: bool) -> None:
        # A host is useless without its gateway, and running threads cannot be joined.
        if not orderly:
            os._exit(1)
        self._loop.call_soon_threadsafe(self.over.set)

    # On a handler's thread

    def _call(self, call: Call) -> None:
        try:
            call.read()
        except (ValueError, RecursionError) as error:
            return self._end(call, python_calls.unreadable(error))
        except BaseException as error:
            return self._raised(call, error)
        try:
            module = call.request["module"]
            if module not in self._imported:
                self.client.loop.call_soon_threadsafe(self._watch_import, call, module)
            function = call.function()
            self._imported.add(module)
            positional, named = call.arguments()
            if call.cancelled.is_set():
                return self._end(call, (python_calls.frames.INTERRUPTED, b""))
            self.client.started(call.number, call.ident)
            try:
                value = call.context.run(function, *positional, **named)
            finally:
                end_if_forked(self._pid)
            is_awaitable = python_calls.is_awaitable(value)
        except BaseException as error:
            return self._raised(call, error)
        if is_awaitable:
            self._loop.call_soon_threadsafe(self._start_task, call, value)
        else:
            self._returned(call, value)

    # On the main thread

    def _start_task(self, call: Call, awaitable: Any) -> None:
        try:
            call.task = call.context.run(self._loop.create_task, self._settled(awaitable))
        except BaseException as error:
            # Handlers can set a task factory on the loop.
            return self._raised(call, error)
        call.task.add_done_callback(lambda task: self._task_done(call, task))
        if call.cancelled.is_set():
            call.task.cancel()

    async def _settled(self, awaitable: Any) -> Settled:
        try:
            try:
                return await awaitable, None
            finally:
                end_if_forked(self._pid)
        except BaseException as error:
            # Even SystemExit only ends the attempt, not the loop that all attempts share.
            return None, error

    def _task_done(self, call: Call, task: "asyncio.Task[Settled]") -> None:
        try:
            value, error = task.result()
        except asyncio.CancelledError as cancelled:
            # It was cancelled before its first step, so `_settled` did not run.
            value, error = None, cancelled
        if error is not None:
            self._raised(call, error)
        else:
            self._returned(call, value)

    def _cancel_task(self, call: Call) -> None:
        if call.task is not None:
            call.task.cancel()

    # On any thread

    def _returned(self, call: Call, value: Any) -> None:
        self._end_as(call, lambda: python_calls.succeeded(call, value, self._max_result_bytes))

    def _raised(self, call: Call, error: BaseException) -> None:
        self._end_as(call, lambda: python_calls.raised(error, call.cancelled.is_set(), self._max_result_bytes))

    def _end_as(self, call: Call, how: Callable[[], python_calls.Ended]) -> None:
        try:
            ended = how()
        except BaseException as error:
            # Without an end the attempt would continue until its timeout.
            ended = python_calls.untold(error)
        self._end(call, ended)

    def _end(self, call: Call, ended: python_calls.Ended) -> None:
        if self._calls.pop(call.number, None) is not None:
            self.client.finished(call.number, call.ident, *ended)
