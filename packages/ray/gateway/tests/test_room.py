"""Room: who gives up a host when there is none for all, and for whom it is kept."""

import asyncio
import time

import pytest

from effect_ray_gateway import fleet as fleet_module
from effect_ray_gateway.placement import Exit
from support.fake import spec
from support.poll import until
from support.pools import BODY, never_placed, state_of


def test_a_pool_that_waits_says_for_what_and_gets_the_idle_hosts_of_others(fake, monkeypatch):
    for name in ("WAITING_SECONDS", "YIELD_SECONDS"):
        monkeypatch.setattr(fleet_module, name, 0)
    supervisor = fake.supervisor()
    idle, needy = supervisor.open(spec(1)), supervisor.open(spec(2, env={"A": "1"}))
    call = supervisor.run(idle, BODY)
    host = fake.host()
    host.answer(host.run())
    supervisor.result(call)
    monkeypatch.setattr(type(fake.cluster), "run", never_placed)
    supervisor.run(needy, BODY)
    assert "CPU 1, available 0 of 1" in until(lambda: told(supervisor, 2), "it says what it waits for")
    assert host.next("BYE")
    assert supervisor.next("HOST_DOWN").json["number"] == host.number


def test_a_pool_whose_environment_is_set_up_takes_no_hosts_of_others(fake, monkeypatch):
    for name in ("WAITING_SECONDS", "YIELD_SECONDS", "TURN_SECONDS"):
        monkeypatch.setattr(fleet_module, name, 0)
    supervisor = fake.supervisor()
    idle, slow = supervisor.open(spec(1)), supervisor.open(spec(2, env={"A": "1"}))
    call = supervisor.run(idle, BODY)
    host = fake.host()
    host.answer(host.run())
    supervisor.result(call)
    monkeypatch.setattr(type(fake.cluster), "run", never_placed)
    fake.cluster.lacks = None
    supervisor.run(slow, BODY)
    assert "environment" in until(lambda: told(supervisor, 2), "it says what it waits for")
    # Everything that is due by time has been seen to since.
    asked = fake.cluster.asked
    until(lambda: fake.cluster.asked > asked + 1, "time goes on")
    assert leaving(fake) == set()
    supervisor.run(idle, BODY)
    host.answer(host.run())


def test_a_pool_with_several_hosts_gives_one_to_a_pool_that_has_none(fake, monkeypatch):
    for name in ("WAITING_SECONDS", "YIELD_SECONDS"):
        monkeypatch.setattr(fleet_module, name, 0)
    supervisor = fake.supervisor()
    rich, needy = supervisor.open(spec(1, placement={"maxHosts": 2})), supervisor.open(spec(2, env={"A": "1"}))
    for _ in range(20):
        supervisor.run(rich, BODY)
    first, second = fake.host(slots=1), fake.host(slots=1)
    runs = {first: first.run(), second: second.run()}
    monkeypatch.setattr(type(fake.cluster), "run", never_placed)
    supervisor.run(needy, BODY)
    until(lambda: fake.look(lambda gateway: [host for host in gateway.hosts.values() if host.retiring]), "one is asked to leave")
    # It finishes what it has, and leaves.
    leaving = first if fake.look(lambda gateway: gateway.hosts[first.name].retiring) else second
    leaving.answer(runs[leaving])
    assert leaving.next("BYE")
    staying = second if leaving is first else first
    staying.answer(runs[staying])
    staying.run()


def test_an_idle_host_is_given_up_though_another_pool_gives_one_up_when_it_can(fake, monkeypatch):
    for name in ("WAITING_SECONDS", "YIELD_SECONDS"):
        monkeypatch.setattr(fleet_module, name, 0)
    supervisor = fake.supervisor()
    rich, idle = supervisor.open(spec(1, placement={"maxHosts": 2})), supervisor.open(spec(2, env={"A": "1"}))
    needy = supervisor.open(spec(3, env={"A": "2"}))
    for _ in range(2):
        supervisor.run(rich, BODY)
    for host in (fake.host(slots=1), fake.host(slots=1)):
        host.run()
    call = supervisor.run(idle, BODY)
    busy = fake.host(slots=1)
    run = busy.run()
    monkeypatch.setattr(type(fake.cluster), "run", never_placed)
    supervisor.run(needy, BODY)
    until(lambda: fake.look(lambda gateway: [host for host in gateway.hosts.values() if host.retiring]), "one is asked to leave")
    # That one has something to do for a long time yet.
    busy.answer(run)
    supervisor.result(call)
    assert busy.next("BYE")


def two_busy_pools(fake, supervisor, priorities=(5, 5)):
    """Two pools with one host each, that is busy and has more to do; the hosts with what they run."""
    busy = []
    for ref, priority in enumerate(priorities, 1):
        pool = supervisor.open(spec(ref, env={"POOL": str(ref)}))
        for _ in range(2):
            supervisor.run(pool, BODY, priority=priority)
        host = fake.host(slots=1)
        busy.append((host, host.run()))
    return busy


def leaving(fake):
    """The numbers of the hosts that are to leave when their last call has ended."""
    return fake.look(lambda gateway: {host.number for host in gateway.hosts.values() if host.retiring})


def test_a_pool_that_waits_gets_the_only_host_of_another_which_then_waits_for_its_turn(fake, monkeypatch):
    for name in ("WAITING_SECONDS", "YIELD_SECONDS", "TURN_SECONDS"):
        monkeypatch.setattr(fleet_module, name, 0)
    monkeypatch.setattr(fleet_module, "PRIORITY_SECONDS", 0.05)
    supervisor = fake.supervisor()
    busy = two_busy_pools(fake, supervisor)
    run = type(fake.cluster).run
    monkeypatch.setattr(type(fake.cluster), "run", never_placed)
    supervisor.run(supervisor.open(spec(3, env={"POOL": "3"})), BODY)
    chosen = until(lambda: leaving(fake), "one is asked to leave")
    # One is enough, though more time passes.
    supervisor.settle()
    assert leaving(fake) == chosen and len(chosen) == 1
    host, given = next(pair for pair in busy if {pair[0].number} == chosen)
    monkeypatch.setattr(type(fake.cluster), "run", run)
    host.answer(given)
    assert host.next("BYE")


def test_the_pool_with_the_lowest_priority_gives_way_first(fake, monkeypatch):
    for name in ("WAITING_SECONDS", "YIELD_SECONDS", "TURN_SECONDS"):
        monkeypatch.setattr(fleet_module, name, 0)
    supervisor = fake.supervisor()
    (high, _), (low, _) = two_busy_pools(fake, supervisor, (8, 2))
    monkeypatch.setattr(type(fake.cluster), "run", never_placed)
    supervisor.run(supervisor.open(spec(3, env={"POOL": "3"})), BODY, priority=9)
    assert until(lambda: leaving(fake), "one is asked to leave") == {low.number}


def test_a_pool_of_lower_priority_waits_until_it_is_old(fake, monkeypatch):
    for name in ("WAITING_SECONDS", "YIELD_SECONDS", "TURN_SECONDS"):
        monkeypatch.setattr(fleet_module, name, 0)
    monkeypatch.setattr(fleet_module, "PRIORITY_SECONDS", 1_000)
    supervisor = fake.supervisor()
    two_busy_pools(fake, supervisor, (8, 8))
    monkeypatch.setattr(type(fake.cluster), "run", never_placed)
    supervisor.run(supervisor.open(spec(3, env={"POOL": "3"})), BODY, priority=2)
    until(lambda: fake.look(lambda gateway: any(pool.fleet.needs_room(time.monotonic(), 2) for pool in gateway.pools.values())), "it waits")
    assert leaving(fake) == set()
    monkeypatch.setattr(fleet_module, "PRIORITY_SECONDS", 0.1)
    until(lambda: leaving(fake), "its age counts")


def test_a_host_that_was_to_be_given_up_goes_on_when_it_is_not_needed(fake, monkeypatch):
    for name in ("WAITING_SECONDS", "YIELD_SECONDS", "TURN_SECONDS"):
        monkeypatch.setattr(fleet_module, name, 0)
    supervisor = fake.supervisor()
    busy = two_busy_pools(fake, supervisor)
    run = type(fake.cluster).run
    monkeypatch.setattr(type(fake.cluster), "run", never_placed)
    needy = supervisor.run(supervisor.open(spec(3, env={"POOL": "3"})), BODY)
    until(lambda: leaving(fake), "one is asked to leave")
    monkeypatch.setattr(type(fake.cluster), "run", run)
    monkeypatch.setattr(fleet_module, "WANTED_SECONDS", 0)
    supervisor.cancel(needy)
    until(lambda: not leaving(fake), "it stays")
    for host, given in busy:
        host.answer(given)
        host.answer(host.run())


def places(fake, monkeypatch, *names):
    """Lets the hosts of these pools have no place on a node; each is placed when the function that it returns is called."""
    gates, run = {}, type(fake.cluster).run

    async def places_later(cluster, placed, name, spec, orders, on_placed):
        if spec.env.get("POOL") in names:
            placed.on_kill = (gate := gates.setdefault(spec.env["POOL"], asyncio.Event())).set
            await gate.wait()
            if placed.killed:
                return Exit("actor", "killed")
        return await run(cluster, placed, name, spec, orders, on_placed)

    monkeypatch.setattr(type(fake.cluster), "run", places_later)
    return lambda name: fake.loop.call_soon_threadsafe(lambda: gates[name].set())


def open_pool(supervisor, number):
    return supervisor.open(spec(number, env={"POOL": str(number)}))


def leaves(fake, busy):
    """One of the busy hosts is asked to leave, ends what it runs, and does."""
    numbers = until(lambda: leaving(fake), "one is asked to leave")
    host, given = next(pair for pair in busy if pair[0].number in numbers)
    host.answer(given)
    assert host.next("BYE")
    return [pair for pair in busy if pair[0] is not host]


@pytest.fixture
def room(fake, monkeypatch):
    """Two busy pools with more to do, and a third of priority 9 that needs the room of both; the first host has left."""
    for name in ("WAITING_SECONDS", "YIELD_SECONDS", "TURN_SECONDS"):
        monkeypatch.setattr(fleet_module, name, 0)
    place = places(fake, monkeypatch, "3")
    supervisor, other = fake.supervisor(), fake.supervisor()
    busy = two_busy_pools(fake, supervisor, (1, 1))
    call = other.run(open_pool(other, 3), BODY, priority=9)
    busy = leaves(fake, busy)
    until(lambda: leaving(fake), "the other is asked to leave")
    assert len(fake.cluster.orders) == 2
    return supervisor, other, busy, call, place


def regrown(fake):
    until(lambda: len(fake.cluster.orders) == 3, "the first one has a host again")


def test_what_was_given_up_is_kept_for_the_pool_that_needs_more(fake, room):
    supervisor, other, busy, call, place = room
    leaves(fake, busy)
    assert "room is made" in until(lambda: told(supervisor, 1), "it says what it waits for")
    assert len(fake.cluster.orders) == 2
    place("3")
    host = fake.host(order=until(lambda: fake.cluster.orders[2:], "it has its place")[0])
    host.answer(host.run())
    assert other.result(call).type == "RESULT"
    # Then it is the others' turn.
    until(lambda: len(fake.cluster.orders) == 5, "they have hosts again")


def test_what_is_kept_for_a_pool_is_free_when_its_calls_are_gone(fake, monkeypatch, room):
    _, other, _, call, _ = room
    monkeypatch.setattr(fleet_module, "WANTED_SECONDS", 0)
    other.cancel(call)
    regrown(fake)
    until(lambda: not leaving(fake), "the second one stays")


def test_what_is_kept_for_a_pool_is_free_when_its_supervisor_is_gone(fake, room):
    room[1].send("BYE")
    regrown(fake)


def test_what_is_kept_for_a_pool_is_free_when_it_does_not_help_for_long(fake, monkeypatch, room):
    monkeypatch.setattr(fleet_module, "RESERVED_SECONDS", 0)
    regrown(fake)


def test_nothing_is_kept_from_a_pool_of_higher_priority(fake, monkeypatch, room):
    monkeypatch.setattr(fleet_module, "PRIORITY_SECONDS", 1000)
    supervisor, _, busy, _, _ = room
    assert len(busy) == 1
    # Which of the two has left is the gateway's choice.
    for pool in (1, 2):
        supervisor.run(pool, BODY, priority=15)
    regrown(fake)


def test_a_pool_that_needs_what_is_kept_for_another_asks_ray_again_when_it_is_free(fake, monkeypatch):
    for name in ("WAITING_SECONDS", "YIELD_SECONDS", "TURN_SECONDS"):
        monkeypatch.setattr(fleet_module, name, 0)
    place = places(fake, monkeypatch, "3", "4")
    supervisor = fake.supervisor()
    busy = two_busy_pools(fake, supervisor, (8, 8))
    call = supervisor.run(open_pool(supervisor, 4), BODY, priority=1)
    until(lambda: len(asked_for(fake, 4)) == 1, "it asks Ray")
    supervisor.run(open_pool(supervisor, 3), BODY, priority=9)
    leaves(fake, busy)
    until(lambda: not asked_for(fake, 4), "it asks no more")
    place("3")
    until(lambda: asked_for(fake, 4), "it asks again")
    supervisor.cancel(call)


def asked_for(fake, number):
    """The hosts of a pool that were asked for."""
    return fake.look(lambda gateway: [host.name for host in gateway.hosts.values() if host.pool.spec.env == {"POOL": str(number)}])


def told(supervisor, ref):
    """What a pool said last, once it says anything."""
    return state_of(supervisor, ref, "starting")["detail"]
