"""Who gets the next call."""

from effect_ray_gateway.hosts import HostState
from support.world import run


def test_hosts_get_calls_in_turn():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        hosts = [world.host(pool, 2) for _ in range(3)]
        calls = [world.submit(supervisor, pool) for _ in range(6)]
        assert [call.host for call in calls] == hosts * 2 and pool.dispatch.waiting == 0

    run(main)


def test_calls_wait_for_a_slot_and_get_it_in_their_order():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        host = world.host(pool)
        first, second, third = (world.submit(supervisor, pool) for _ in range(3))
        assert (first.host, second.host, third.host, pool.dispatch.waiting) == (host, None, None, 2)
        world.answer(first)
        assert (second.host, third.host, pool.dispatch.waiting) == (host, None, 1)

    run(main)


def test_a_host_that_is_slow_or_gone_gets_none():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        slow, gone = world.host(pool), world.host(pool)
        slow.connection.slow = True
        slow.slow(slow.connection, True)
        pool.dispatch.remove(gone)
        call = world.submit(supervisor, pool)
        assert call.host is None
        slow.connection.slow = False
        slow.slow(slow.connection, False)
        assert call.host is slow

    run(main)


def test_a_call_that_has_ended_where_it_waited_is_given_to_nobody():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        host = world.host(pool)
        running, ended, next_ = (world.submit(supervisor, pool) for _ in range(3))
        ended.end(ended.interrupted())
        pool.dispatch.forget(ended)
        assert pool.dispatch.waiting == 1
        world.answer(running)
        assert ended.host is None and next_.host is host and pool.dispatch.waiting == 0

    run(main)


def test_calls_of_a_supervisor_that_does_not_read_are_passed_over():
    async def main(world):
        deaf, other = world.supervisor("deaf"), world.supervisor("other")
        pool = world.pool(deaf)
        assert world.pool(other) is pool
        deaf.slow(deaf.connection, True)
        waits, runs = world.submit(deaf, pool), world.submit(other, pool)
        host = world.host(pool)
        assert (waits.host, runs.host) == (None, host)
        world.answer(runs)
        assert waits.host is None
        deaf.slow(deaf.connection, False)
        assert waits.host is host

    run(main)


def test_a_call_does_not_wait_behind_those_of_a_supervisor_that_does_not_read():
    async def main(world):
        deaf, other = world.supervisor("deaf"), world.supervisor("other")
        pool = world.pool(deaf)
        host = world.host(pool)
        deaf.slow(deaf.connection, True)
        waits, runs = world.submit(deaf, pool), world.submit(other, pool)
        assert (waits.host, runs.host, pool.dispatch.waiting) == (None, host, 1)

    run(main)


def test_a_call_that_must_be_alone_takes_an_idle_host_whole():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        host = world.host(pool, 2)
        alone, other = world.submit(supervisor, pool, alone=True), world.submit(supervisor, pool)
        assert alone.host is host and host.state is HostState.ALONE and other.host is None
        world.answer(alone)
        assert other.host is host and host.state is HostState.SERVING

    run(main)


def test_the_emptiest_host_is_set_aside_for_a_call_that_must_be_alone_and_taken_back():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        full, emptier = world.host(pool, 4), world.host(pool, 4)
        for _ in range(3):
            world.submit(supervisor, pool)
        assert (len(full.calls), len(emptier.calls)) == (2, 1)
        alone = world.submit(supervisor, pool, alone=True)
        assert (full.state, emptier.state) == (HostState.SERVING, HostState.EMPTYING)
        others = [world.submit(supervisor, pool) for _ in range(3)]
        assert [call.host for call in others] == [full, full, None]
        alone.end(alone.interrupted())
        pool.dispatch.forget(alone)
        assert emptier.state is HostState.SERVING and others[2].host is emptier

    run(main)


def test_half_of_the_hosts_are_set_aside_at_the_most():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        hosts = [world.host(pool, 2) for _ in range(4)]
        for _ in hosts:
            world.submit(supervisor, pool)
        for _ in hosts:
            world.submit(supervisor, pool, alone=True)
        assert [host.state for host in hosts].count(HostState.EMPTYING) == 2

    run(main)


def test_the_highest_priority_of_what_waits_is_known_until_it_is_drained():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        assert pool.dispatch.priority() == -1
        calls = [world.submit(supervisor, pool, priority=2, alone=True), world.submit(supervisor, pool, priority=1)]
        assert (pool.dispatch.priority(), pool.dispatch.waiting) == (2, 2)
        assert set(pool.dispatch.drain()) == set(calls) and pool.dispatch.waiting == 0

    run(main)
