"""Waiting for sockets, awake at first when what is waited for is near.

Waking a process that sleeps takes its waker some tens of microseconds, and a call wakes four: that was most of what a
call cost. So a wait that follows a short one stays awake for as long as a short one takes. It is what the halt polling
of Linux' KVM does: https://docs.kernel.org/virt/kvm/halt-polling.html
"""

import asyncio
import os
import selectors
import time
from typing import Any, Coroutine, List, Optional, Set

#: The longest that a wait stays awake. A longer one is no sign that the next will be short.
AWAKE_SECONDS = 0.0002


class AwakeSelector(selectors.DefaultSelector):
    """A selector that polls before it sleeps, while that pays."""

    _pays = False

    def select(self, timeout: Optional[float] = None) -> List[Any]:
        """As its parent's."""
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        began = time.perf_counter()
        while self._pays and not ready:
            ready = super().select(0)
            self._pays = time.perf_counter() - began < AWAKE_SECONDS
        if not ready:
            ready = super().select(timeout)
            self._pays = time.perf_counter() - began < AWAKE_SECONDS
        return ready


def cpus(quota: str = "/sys/fs/cgroup/cpu.max") -> float:
    """The CPUs that this process may use, by its affinity and by its control group's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open(quota) as file:
            micros, period = file.read().split()
        return allowed if micros == "max" else min(allowed, int(micros) / int(period))
    except (OSError, ValueError):
        return allowed


def make_loop() -> asyncio.AbstractEventLoop:
    """A loop that stays awake where another CPU is left for what it waits for."""
    return asyncio.SelectorEventLoop(AwakeSelector() if cpus() >= 2 else None)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs the coroutine on such a loop, as `asyncio.run` does on a usual one."""
    loop = make_loop()
    try:
        loop.run_until_complete(main)
    finally:
        loop.run_until_complete(_end(asyncio.all_tasks(loop)))
        loop.close()


async def _end(tasks: "Set[asyncio.Task[Any]]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
