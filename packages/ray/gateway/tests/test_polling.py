"""Waits that stay awake at first, under a clock of the test's own."""

import asyncio
import selectors

import pytest

from effect_ray_gateway import polling


@pytest.fixture
def waits(monkeypatch):
    """The timeouts that are asked for. What is ready, and the time that each look takes, are the test's to say."""

    class Waits:
        def __init__(self):
            self.asked = []
            self.ready_after = 0.0
            self.now = 0.0

        def select(self, selector, timeout=None):
            self.asked.append(timeout)
            if timeout is None or timeout > 0:
                # A blocking look ends when something is ready.
                self.now = max(self.now, self.ready_after)
            else:
                self.now += polling.AWAKE_SECONDS / 10
            return ["ready"] if self.now >= self.ready_after else []

    waits = Waits()
    monkeypatch.setattr(selectors.DefaultSelector, "select", lambda selector, timeout=None: waits.select(selector, timeout))
    monkeypatch.setattr(polling.time, "perf_counter", lambda: waits.now)
    return waits


def wait(waits, selector, seconds):
    """Waits for something that is ready after so long; answers whether it had to sleep for it."""
    waits.asked.clear()
    waits.ready_after = waits.now + seconds
    assert selector.select(None) == ["ready"]
    return None in waits.asked


def test_a_wait_after_a_short_one_stays_awake(waits):
    selector = polling.AwakeSelector()
    short, long = polling.AWAKE_SECONDS / 2, polling.AWAKE_SECONDS * 50
    assert wait(waits, selector, short), "nothing was known yet"
    assert not wait(waits, selector, short)
    assert not wait(waits, selector, short)
    assert wait(waits, selector, long)
    assert len(waits.asked) <= 12, "it stays awake for a bounded time"
    assert wait(waits, selector, long)
    assert waits.asked == [0, None], "and not again after a long wait"
    assert wait(waits, selector, short)
    assert not wait(waits, selector, short)


def test_what_is_ready_is_answered_at_once_and_a_timeout_of_zero_never_waits(waits):
    selector = polling.AwakeSelector()
    assert selector.select(5) == ["ready"]
    waits.ready_after = float("inf")
    assert selector.select(0) == []
    assert waits.asked == [0, 0]


@pytest.mark.parametrize("quota, cpus", [("max 100000", 4), ("150000 100000", 1.5), ("800000 100000", 4), ("?", 4)])
def test_counts_the_cpus_that_it_may_use(monkeypatch, tmp_path, quota, cpus):
    monkeypatch.setattr(polling.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    (tmp_path / "cpu.max").write_text(quota)
    assert polling.cpus(str(tmp_path / "cpu.max")) == cpus
    assert polling.cpus(str(tmp_path / "missing")) == 4


@pytest.mark.parametrize("cpus, awake", [(1, False), (1.5, False), (2, True)])
def test_a_single_cpu_is_left_to_what_is_waited_for(monkeypatch, cpus, awake):
    monkeypatch.setattr(polling, "cpus", lambda: cpus)
    loop = polling.make_loop()
    try:
        assert isinstance(loop._selector, polling.AwakeSelector) is awake
    finally:
        loop.close()


def test_run_ends_well_when_nothing_is_left():
    done = []

    async def main():
        done.append(True)

    polling.run(main())
    assert done == [True]


def test_run_ends_what_is_left_and_passes_on_what_is_raised():
    ended = []

    async def left():
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def main():
        task = asyncio.ensure_future(left())
        await asyncio.sleep(0.001)
        assert not task.done()
        raise ValueError("said")

    with pytest.raises(ValueError, match="said"):
        polling.run(main())
    assert ended == [True]
