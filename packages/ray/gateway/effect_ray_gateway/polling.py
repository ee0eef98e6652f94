"""Waits for sockets, and stays awake at first if the next event is probably near.

Waking a sleeping process takes the waker some tens of microseconds, and a call wakes four processes: that was most of a
call's time. So a wait that follows a short one stays awake for as long as a short one takes. The halt polling of KVM in
Linux works in the same way: https://docs.kernel.org/virt/kvm/halt-polling.html
"""

import asyncio
import os
import selectors
import time
from typing import Any, Coroutine, List, Optional, Set

#: How long a wait stays awake at most. After a longer wait, the next one is probably not short.
AWAKE_SECONDS = 0.0002


class AwakeSelector(selectors.DefaultSelector):
    """A selector that polls before it sleeps, as long as that pays."""

    _pays = False

    def select(self, timeout: Optional[float] = None) -> List[Any]:
        """Waits like the selector of the parent class."""
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
    """Returns how many CPUs this process may use, according to its affinity and the quota of its control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open(quota) as file:
            micros, period = file.read().split()
        return allowed if micros == "max" else min(allowed, int(micros) / int(period))
    except (OSError, ValueError):
        return allowed


def make_loop() -> asyncio.AbstractEventLoop:
    """Makes a loop that stays awake if there is another CPU for the processes that it waits for."""
    return asyncio.SelectorEventLoop(AwakeSelector() if cpus() >= 2 else None)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs the coroutine on such a loop, as `asyncio.run` does on a normal one."""
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
