"""When a host starts, rests and retires."""

import asyncio
import time

import pytest

from effect_ray_gateway import fleet
from effect_ray_gateway.hosts import HostState
from effect_ray_gateway.placement import Exit
from effect_ray_gateway.pool_spec import PoolSpec
from support.fake import spec
from support.world import run, settle


async def started(world, pool):
    """The host that the fleet has asked for."""
    await settle()
    (host,) = [host for host in pool.fleet.hosts if host.state is HostState.STARTING]
    return host


def test_one_host_at_a_time_is_asked_for_while_calls_wait_up_to_the_most():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor, placement={"maxHosts": 2})
        await settle()
        assert world.cluster.orders == []
        for _ in range(5):
            world.submit(supervisor, pool)
        world.dial(await started(world, pool))
        assert pool.fleet.slots == 1
        world.dial(await started(world, pool))
        await settle()
        assert (len(world.cluster.orders), pool.fleet.slots, pool.dispatch.waiting) == (2, 2, 3)

    run(main)


def test_what_no_node_can_hold_is_given_back_and_not_asked_for_at_once():
    async def main(world):
        world.cluster.missing = "no node has GPU 1"
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        call = world.submit(supervisor, pool)
        await settle()
        assert b"unschedulable" in world.gateway.retained.read(call.kept)
        assert not pool.fleet.hosts and pool.dispatch.waiting == 0 and pool.fleet.failures == 0
        world.submit(supervisor, pool)
        await settle()
        assert not pool.fleet.hosts and world.cluster.orders == []

    run(main)


def test_a_host_that_does_not_come_up_is_a_failure_and_the_next_one_waits():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        call = world.submit(supervisor, pool)
        (await started(world, pool)).exited(Exit("exit", "the bundle throws"))
        assert b"the bundle throws" in world.gateway.retained.read(call.kept)
        world.submit(supervisor, pool)
        await settle()
        assert not pool.fleet.hosts and pool.fleet.failures == 1

    run(main)


def test_failures_are_counted_until_a_host_has_ended_an_attempt(monkeypatch):
    async def main(world):
        monkeypatch.setattr(fleet, "MAX_RETRY_SECONDS", 0)
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        for number in (1, 2, 3):
            world.submit(supervisor, pool)
            (await started(world, pool)).exited(Exit("exit", "the bundle throws"))
            assert pool.fleet.failures == number
        call = world.submit(supervisor, pool)
        world.dial(await started(world, pool))
        assert pool.fleet.failures == 3
        world.answer(call)
        assert pool.fleet.failures == 0

    run(main)


def test_a_host_that_retires_gets_no_calls_and_leaves_with_its_last():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        call = world.submit(supervisor, pool)
        host = world.dial(await started(world, pool), 2)
        pool.fleet.retire()
        other = world.submit(supervisor, pool)
        assert host.state is HostState.RETIRING and other.host is None and pool.fleet.staying() == []
        host.connection.read_sent()
        world.answer(call)
        assert host.state is HostState.GONE and host.connection.count("BYE") == 1
        assert host not in pool.fleet.hosts and host.name not in world.gateway.hosts

    run(main)


def test_a_host_without_calls_leaves_at_once_whether_it_is_up_or_not():
    async def main(world):
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        call = world.submit(supervisor, pool)
        host = await started(world, pool)
        pool.fleet.retire()
        assert host.state is HostState.GONE and world.cluster.orders[0].killed.is_set() is False
        host = world.dial(await started(world, pool))
        world.answer(call)
        pool.fleet.retire()
        assert host.state is HostState.GONE and not pool.fleet.hosts

    run(main)


def test_a_host_that_yields_goes_on_when_the_other_pool_needs_none():
    async def main(world):
        supervisor = world.supervisor()
        pool, other = world.pool(supervisor), world.pool(supervisor, env={"A": "1"})
        call = world.submit(supervisor, pool)
        host = world.dial(await started(world, pool), 2)
        pool.fleet.yield_to(other)
        assert host.state is HostState.RETIRING and world.gateway.leaves_for(other)
        waits = world.submit(supervisor, pool)
        assert waits.host is None
        pool.fleet.take_back(time.monotonic())
        assert host.state is HostState.SERVING and waits.host is host and not world.gateway.leaves_for(other)
        world.answer(call)
        assert host.state is HostState.SERVING

    run(main)


def test_a_host_that_runs_a_call_alone_goes_on_with_it_alone():
    async def main(world):
        supervisor = world.supervisor()
        pool, other = world.pool(supervisor), world.pool(supervisor, env={"A": "1"})
        call = world.submit(supervisor, pool, alone=True)
        host = world.dial(await started(world, pool), 2)
        assert host.state is HostState.ALONE
        pool.fleet.yield_to(other)
        pool.fleet.take_back(time.monotonic())
        assert host.state is HostState.ALONE and not host.open
        world.answer(call)
        assert host.open

    run(main)


def test_a_host_that_leaves_for_another_pool_makes_it_wait_for_its_own(monkeypatch):
    async def main(world):
        supervisor = world.supervisor()
        pool, other = world.pool(supervisor), world.pool(supervisor, env={"A": "1"})
        call = world.submit(supervisor, pool)
        world.dial(await started(world, pool))
        pool.fleet.yield_to(other)
        world.answer(call)
        world.submit(supervisor, pool)
        await settle()
        # Its place is the other's, for YIELD_SECONDS at the least.
        assert not pool.fleet.hosts
        assert other.fleet.had_in_vain(time.monotonic())

    run(main)


def test_a_host_that_nobody_wants_any_more_is_not_asked_for(monkeypatch):
    async def main(world):
        monkeypatch.setattr(fleet, "WANTED_SECONDS", 0)
        monkeypatch.setattr(type(world.cluster), "run", never_placed)
        supervisor = world.supervisor()
        pool = world.pool(supervisor)
        call = world.submit(supervisor, pool)
        host = await started(world, pool)
        await pool.fleet.tick(time.monotonic())
        assert host.state is HostState.STARTING
        call.end(call.interrupted())
        pool.dispatch.forget(call)
        await pool.fleet.tick(time.monotonic())
        assert host.state is HostState.GONE and not pool.fleet.hosts and pool.fleet.failures == 0

    run(main)


async def never_placed(cluster, placed, name, spec, orders, on_placed):
    await asyncio.Event().wait()


@pytest.mark.parametrize("state", list(HostState), ids=lambda state: state.value)
def test_a_host_that_is_gone_stays_so(state):
    async def main(world):
        supervisor = world.supervisor()
        host = world.host(world.pool(supervisor))
        host.fence(Exit("exit", "by the test"))
        with pytest.raises(AssertionError, match="a host that is gone cannot be"):
            host._become(state)

    run(main)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"runtime": "ruby"}, "runtime is 'ruby', not node or python"),
        ({"package": None}, "a pool needs a package and a placement"),
        ({"env": []}, None),
        ({"env": [1]}, "env and limits are objects"),
        ({"placement": {"cpus": -1}}, "placement.cpus is -1, not an amount"),
        ({"placement": {"gpus": True}}, "placement.gpus is True, not an amount"),
        ({"placement": {"pip": "numpy"}}, "placement.resources is an object, placement.pip a list"),
        ({"placement": {"maxHosts": 0}}, "maxHosts is 0, not an integer from 1 to 10000"),
        ({"limits": {"maxResultBytes": 1.5}}, "maxResultBytes is 1.5, not an integer"),
        ({"limits": {"graceMillis": -1}}, "graceMillis is -1, not an integer"),
    ],
)
def test_a_spec_that_no_host_could_serve_is_refused(changes, words):
    if words is None:
        assert PoolSpec.read(spec(**changes)).env == {}
    else:
        with pytest.raises(ValueError) as refused:
            PoolSpec.read(spec(**changes))
        assert words in str(refused.value)


def test_a_spec_has_defaults_and_tells_hosts_what_came():
    read = PoolSpec.read({"runtime": "python", "package": "gcs://p.zip", "placement": {"concurrency": 3, "resources": {"disk": 1}}})
    assert (read.placement.cpus, read.placement.max_hosts, read.grace_millis) == (1, 1, 5000)
    assert read.placement.kinds() == {"cpus", "disk"}
    assert read.orders == {"env": {}, "limits": {}, "placement": {"concurrency": 3, "resources": {"disk": 1}}}
