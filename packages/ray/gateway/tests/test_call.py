"""The life of one call: when its credit goes back, and when its end is told."""

import pytest

from effect_ray_gateway import frames, hosts, supervisors
from support.world import run


@pytest.fixture(autouse=True)
def little_credit(monkeypatch):
    """Credit goes back with each frame."""
    monkeypatch.setattr(supervisors, "CREDIT_FRAMES", 4)
    monkeypatch.setattr(hosts, "CREDIT_FRAMES", 0)


def result(call, size=8):
    return frames.frame(frames.RESULT, bytes(size), call=call.number)


def running(world):
    """A supervisor, a host and the call that the host got from it. What was sent so far has been read."""
    supervisor = world.supervisor()
    pool = world.pool(supervisor)
    host, call = world.host(pool), world.call(supervisor, pool)
    call.given(host)
    supervisor.connection.read_sent(), host.connection.read_sent()
    return supervisor, host, call


def test_a_host_that_is_given_a_call_has_its_run_and_the_supervisor_its_credit():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        host, call = world.host(pool), world.call(supervisor, pool)
        supervisor.connection.read_sent()
        call.given(host)
        assert host.connection.read_sent() == [("RUN", call.number)] and host.calls == {call.number: call}
        assert supervisor.connection.read_sent() == [("CREDIT", 0)]
        assert call.run is None and call.host is host

    run(main)


def test_the_end_of_a_call_that_waits_is_told_with_its_credit_once():
    async def main(world):
        supervisor = world.supervisor()
        call = world.call(supervisor, world.pool(supervisor))
        supervisor.connection.read_sent()
        call.end(call.interrupted())
        assert supervisor.connection.read_sent() == [("CREDIT", 0), ("RESULT", call.number)]
        assert world.gateway.retained.read(call.kept) == call.interrupted()
        supervisor.receive(frames.ACK, 0, 0, 0, frames.ack_frame([call.number]))
        assert not supervisor.calls and world.gateway.retained.memory_bytes == 0

    run(main)


def test_the_end_of_a_call_that_runs_returns_the_credit_of_its_host():
    async def main(world):
        supervisor, host, call = running(world)
        data = result(call)
        host.receive(frames.RESULT, 0, 0, call.number, data)
        assert supervisor.connection.read_sent() == [("RESULT", call.number)]
        assert host.connection.read_sent() == [("CREDIT", 0)] and not host.calls
        # A host repeats itself: the call has ended, and the credit goes back.
        host.receive(frames.RESULT, 0, 0, call.number, data)
        assert supervisor.connection.read_sent() == [] and host.connection.read_sent() == [("CREDIT", 0)]

    run(main)


def test_the_credit_of_a_host_is_owed_while_the_supervisor_does_not_read():
    async def main(world):
        supervisor, host, call = running(world)
        supervisor.slow(supervisor.connection, True)
        host.receive(frames.RESULT, 0, 0, call.number, result(call))
        assert host.connection.read_sent() == []
        supervisor.slow(supervisor.connection, False)
        assert host.connection.read_sent() == [("CREDIT", 0)]

    run(main)


def test_a_loss_takes_no_credit_and_returns_none():
    async def main(world):
        supervisor, host, call = running(world)
        call.end(call.lost("exit", "by the test", False))
        assert supervisor.connection.read_sent() == [("LOST", call.number)] and host.connection.read_sent() == []

    run(main)


def test_nothing_is_told_or_kept_of_a_call_whose_supervisor_is_gone():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        host, call = world.host(pool), world.call(supervisor, pool)
        call.given(host)
        supervisor.receive(frames.BYE, 0, 0, 0, b"")
        supervisor.connection.read_sent(), host.connection.read_sent()
        host.receive(frames.RESULT, 0, 0, call.number, result(call))
        assert supervisor.connection.read_sent() == [] and host.connection.read_sent() == [("CREDIT", 0)]
        assert call.kept is None and world.gateway.retained.memory_bytes == 0

    run(main)


def test_the_start_of_a_call_is_told_once():
    async def main(world):
        supervisor = world.supervisor()
        call = world.call(supervisor, world.pool(supervisor))
        supervisor.connection.read_sent()
        for _ in range(2):
            call.start(frames.frame(frames.STARTED, call=call.number))
        assert supervisor.connection.read_sent() == [("STARTED", call.number)]

    run(main)
