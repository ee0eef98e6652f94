"""Pools: who shares them, when hosts are started and given up, and how the death of a host is told."""

import asyncio
import time

import pytest

from effect_ray_gateway import hosts as hosts_module
from effect_ray_gateway import fleet as fleet_module
from effect_ray_gateway.placement import Exit
from support.fake import FakeGateway, spec
from support.poll import until

BODY = b"{}"


def state_of(supervisor, ref, wanted):
    """The next POOL_STATE of a pool that is in that state."""
    return supervisor.next(lambda frame: frame.type == "POOL_STATE" and frame.json["ref"] == ref and frame.json["state"] == wanted).json


def test_equal_pools_are_one(fake):
    first, second = fake.supervisor(), fake.supervisor()
    pool = first.open(spec(ref=5))
    assert second.open({**spec(ref=9)}) == pool
    assert second.open(spec(ref=10, env={"A": "1"})) != pool
    call = first.run(pool, BODY)
    host = fake.host()
    assert first.next("HOST_UP").json["pool"] == second.next("HOST_UP").json["pool"] == pool
    assert state_of(second, 9, "ready")["slots"] == 1
    host.answer(host.run())
    first.result(call)


def test_no_host_is_started_before_there_is_work(fake):
    supervisor = fake.supervisor()
    supervisor.open(spec(), "starting")
    supervisor.settle()
    assert fake.cluster.orders == []


@pytest.mark.parametrize(
    "wrong",
    [{"runtime": "ruby"}, {"package": None}, {"placement": None}, {"env": ["A"]}, {"limits": {"graceMillis": "x"}}]
    + [{"placement": placement} for placement in ({"cpus": -1}, {"cpus": True}, {"maxHosts": 0}, {"pip": "torch"}, {"resources": ["A"]})],
)
def test_a_pool_that_makes_no_sense_is_failed(fake, wrong):
    supervisor = fake.supervisor()
    supervisor.send("POOL", {**spec(), **wrong})
    state = state_of(supervisor, 1, "failed")
    assert state["pool"] == 0 and state["detail"]
    supervisor.settle()


def test_grows_while_calls_wait_one_host_at_a_time(fake):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec(placement={"maxHosts": 3}))
    for _ in range(5):
        supervisor.run(pool, BODY)
    supervisor.settle()
    assert len(fake.cluster.orders) == 1
    first = fake.host(slots=2)
    second = fake.host(slots=2)
    third = fake.host(slots=2)
    runs = [first.run(), first.run(), second.run(), second.run(), third.run()]
    assert len({run.call for run in runs}) == 5
    assert state_of(supervisor, 1, "ready")["slots"] in (2, 4, 6)
    for _ in range(5):
        supervisor.run(pool, BODY)
    supervisor.settle()
    assert len(fake.cluster.orders) == 3


def test_hosts_get_calls_in_turn(fake):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec(placement={"maxHosts": 2}))
    for _ in range(2):
        supervisor.run(pool, BODY)
    hosts = [fake.host(slots=1), fake.host(slots=1)]
    for _ in range(3):
        for host in hosts:
            host.answer(host.run())
            supervisor.run(pool, BODY)


def serves(fake, supervisor, pool, slots=1):
    """The pool's next host, which has ended an attempt."""
    call = supervisor.run(pool, BODY)
    host = fake.host(slots)
    host.answer(host.run())
    assert supervisor.result(call).type == "RESULT"
    return host


def unplaced(why, detail):
    return {"kind": "unplaced", "why": why, "detail": detail, "collateral": True}


def test_what_no_node_can_hold_is_given_back_until_a_node_can(fake, monkeypatch):
    monkeypatch.setattr(fleet_module, "MISFIT_RETRY_SECONDS", 0.05)
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    fake.cluster.missing = "no node of 1 has GPU 1"
    for _ in range(3):
        call = supervisor.run(pool, BODY)
        assert supervisor.result(call).json == unplaced("unschedulable", "no node of 1 has GPU 1")
    assert state_of(supervisor, 1, "unschedulable")["detail"] == "no node of 1 has GPU 1"
    fake.cluster.missing = None
    call = supervisor.run(pool, BODY)
    host = fake.host()
    host.answer(host.run())
    assert supervisor.result(call).type == "RESULT"


def test_calls_are_given_back_each_time_a_host_does_not_start(fake, monkeypatch):
    monkeypatch.setattr(fleet_module, "MAX_RETRY_SECONDS", 0.05)
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    for number in range(3):
        calls = [supervisor.run(pool, BODY) for _ in range(3)]
        fake.order().end("exit", f"the bundle throws, {number}")
        assert state_of(supervisor, 1, "failed")["detail"] == f"the bundle throws, {number}"
        for call in calls:
            assert supervisor.result(call).json == unplaced("failed", f"the bundle throws, {number}")
    # The pool goes on trying for those that come.
    call = supervisor.run(pool, BODY)
    host = fake.host()
    host.answer(host.run())
    assert supervisor.result(call).type == "RESULT"


def test_calls_are_given_back_when_the_first_host_takes_long_and_go_to_it_when_it_is_there():
    with FakeGateway(wait_seconds=0.05, ping_seconds=0.05) as fake:
        supervisor = fake.supervisor()
        pool = supervisor.open(spec())
        order = None
        for _ in range(3):
            call = supervisor.run(pool, BODY)
            order = order or fake.order()
            assert supervisor.result(call).json == unplaced("starting", "its process is coming up")
        # It is the same host all the time.
        host = fake.host(order=order)
        assert state_of(supervisor, 1, "ready")["slots"] == 1
        call = supervisor.run(pool, BODY)
        host.answer(host.run())
        assert supervisor.result(call).type == "RESULT"
        assert len(fake.cluster.orders) == 1


def failures(fake):
    """How many hosts of the only pool have failed in a row: the next one waits for the longer."""
    return fake.look(lambda gateway: next(iter(gateway.pools.values())).fleet.failures)


def test_a_host_that_dies_before_it_has_ended_an_attempt_has_not_come_up(fake, monkeypatch):
    monkeypatch.setattr(fleet_module, "MAX_RETRY_SECONDS", 0)
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    for number in range(1, 4):
        running, waiting = supervisor.run(pool, BODY), supervisor.run(pool, BODY)
        host = fake.host()
        host.run()
        host.order.end("killed", "SIGSEGV")
        assert supervisor.result(running).json["kind"] == "killed"
        assert supervisor.result(waiting).json == unplaced("failed", "SIGSEGV")
        assert state_of(supervisor, 1, "failed")["detail"] == "SIGSEGV"
        assert failures(fake) == number
    serves(fake, supervisor, pool)
    assert failures(fake) == 0


def test_a_host_that_has_lived_for_some_time_has_come_up(fake, monkeypatch):
    monkeypatch.setattr(hosts_module, "PROVEN_SECONDS", 0)
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    running = supervisor.run(pool, BODY)
    host = fake.host()
    host.run()
    until(lambda: fake.look(lambda gateway: gateway.hosts[host.name].proven), "it has come up")
    host.order.end("killed", "SIGSEGV")
    assert supervisor.result(running).json["kind"] == "killed"
    assert failures(fake) == 0


def test_calls_hear_of_a_failure_that_came_while_none_waited(monkeypatch):
    monkeypatch.setattr(fleet_module, "MAX_RETRY_SECONDS", 0)
    with FakeGateway(wait_seconds=0.05, ping_seconds=0.05) as fake:
        supervisor = fake.supervisor()
        pool = supervisor.open(spec())
        call = supervisor.run(pool, BODY)
        order = fake.order()
        assert supervisor.result(call).json["why"] == "starting"
        order.end("exit", "the layer fails")
        state_of(supervisor, 1, "failed")
        # The next host is being started, and takes as long.
        for _ in range(2):
            assert supervisor.result(supervisor.run(pool, BODY)).json == unplaced("failed", "the layer fails")
        # Each call that comes waits for it, as long as any.
        host = fake.host()
        call = supervisor.run(pool, BODY)
        host.answer(host.run())
        assert supervisor.result(call).type == "RESULT"


def test_a_pool_that_failed_and_waits_for_resources_says_so(monkeypatch):
    monkeypatch.setattr(fleet_module, "MAX_RETRY_SECONDS", 0)
    with FakeGateway(wait_seconds=0.05, ping_seconds=0.05) as fake:
        supervisor = fake.supervisor()
        pool = supervisor.open(spec())
        supervisor.run(pool, BODY)
        fake.order().end("exit", "the layer fails")
        state_of(supervisor, 1, "failed")
        monkeypatch.setattr(type(fake.cluster), "run", never_placed)
        assert supervisor.result(supervisor.run(pool, BODY)).json["why"] == "waiting"


def test_calls_say_what_they_wait_for_and_the_wish_for_a_host_ends_after_them(monkeypatch):
    monkeypatch.setattr(fleet_module, "WANTED_SECONDS", 0.3)
    with FakeGateway(wait_seconds=0.05, ping_seconds=0.05) as fake:
        monkeypatch.setattr(type(fake.cluster), "run", never_placed)
        supervisor = fake.supervisor()
        pool = supervisor.open(spec())
        for _ in range(3):
            call = supervisor.run(pool, BODY)
            assert supervisor.result(call).json == unplaced("waiting", "CPU 1, available 0 of 1")
        asked = fake.look(lambda gateway: list(gateway.hosts))
        assert len(asked) == 1
        until(lambda: not fake.look(lambda gateway: gateway.hosts), "the host is not asked for any more")
        # It is asked for again with the next call.
        supervisor.run(pool, BODY)
        until(lambda: fake.look(lambda gateway: list(gateway.hosts)) not in ([], asked), "another host is asked for")


def test_a_pool_that_has_lost_its_hosts_gives_back_as_one_that_never_had_any():
    with FakeGateway(wait_seconds=0.05, ping_seconds=0.05) as fake:
        supervisor = fake.supervisor()
        pool = supervisor.open(spec())
        host = serves(fake, supervisor, pool)
        first, second = supervisor.run(pool, BODY), supervisor.run(pool, BODY)
        host.run()
        host.order.end("killed", "by the test")
        assert supervisor.result(first).json["kind"] == "killed"
        assert supervisor.result(second).json["why"] == "starting"


def test_a_host_that_is_gone_gets_no_more_calls(fake):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    host = serves(fake, supervisor, pool, slots=10)
    first = supervisor.run(pool, BODY)
    host.run()
    host.close()
    assert state_after_end(fake, host)
    # Not known yet is why it ended: the calls that come meanwhile wait for the next host.
    calls = [supervisor.run(pool, BODY) for _ in range(5)]
    supervisor.settle()
    host.order.end("killed", "because")
    assert supervisor.result(first).json["kind"] == "killed"
    other = fake.host(slots=10)
    for _ in calls:
        other.answer(other.run())
    for call in calls:
        assert supervisor.result(call).type == "RESULT"


def state_after_end(fake, host):
    """Waits until the gateway has seen the end of the host's connection."""
    return until(lambda: fake.look(lambda gateway: gateway.hosts[host.name].fenced), "the host is fenced")


def test_the_ends_of_hosts_are_not_held_against_calls_when_the_gateway_was_away(fake):
    supervisor = fake.supervisor()
    call = supervisor.run(supervisor.open(spec()), BODY)
    host = fake.host()
    host.run()

    def was_stopped(gateway):
        gateway._ticked -= 60
        host.close()

    fake.look(was_stopped)
    assert supervisor.result(call).json["collateral"] is True


def test_a_host_that_was_set_aside_for_a_call_that_is_gone_serves_others_again(fake):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    supervisor.run(pool, BODY)
    host = fake.host(slots=3)
    host.run()
    alone = supervisor.run(pool, BODY, flags=2)
    other = supervisor.run(pool, BODY)
    supervisor.settle()
    # It is being emptied: what comes now waits.
    host.settle()
    assert not [frame for frame in host.inbox if frame.type == "RUN"]
    supervisor.cancel(alone)
    assert supervisor.result(alone).kind == 3
    host.answer(host.run(), b"1")
    assert supervisor.result(other).body == b"1"


def test_a_host_that_was_set_aside_for_a_call_that_got_another_serves_others_again(fake):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec(placement={"maxHosts": 2}))
    for _ in range(4):
        supervisor.run(pool, BODY)
    other, aside = fake.host(slots=3), fake.host(slots=3)
    runs = [other.run() for _ in range(3)]
    aside.run()
    alone = supervisor.run(pool, BODY, flags=2)
    supervisor.settle()
    for run in runs:
        other.answer(run)
    assert other.run().call == alone
    late = supervisor.run(pool, BODY)
    assert aside.run().call == late


def test_a_host_that_never_says_hello_is_given_up(fake, monkeypatch):
    monkeypatch.setattr(hosts_module, "START_SECONDS", 0.05)
    supervisor = fake.supervisor()
    supervisor.run(supervisor.open(spec()), BODY)
    order = fake.order()
    assert "HELLO" in state_of(supervisor, 1, "failed")["detail"]
    assert order.killed.is_set()


@pytest.mark.parametrize("kind", ["oom", "exit", "actor"])
def test_the_end_of_a_connection_waits_for_the_reason(fake, kind):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    call = supervisor.run(pool, BODY)
    host = fake.host()
    host.run()
    host.close()
    host.order.end(kind, "because")
    lost = supervisor.result(call)
    assert (lost.type, lost.json) == ("LOST", {"kind": kind, "detail": "because", "collateral": False})
    assert lost.execution != bytes(16) and lost.fence == 1
    assert supervisor.next("HOST_DOWN").json == {"number": host.number, "detail": "because"}
    supervisor.again(call)
    assert supervisor.result(call).type == "LOST"


def test_the_reason_is_not_waited_for_long(fake, monkeypatch):
    monkeypatch.setattr(hosts_module, "EXIT_REPORT_SECONDS", 0.01)
    supervisor = fake.supervisor()
    call = supervisor.run(supervisor.open(spec()), BODY)
    host = fake.host()
    host.run()
    host.close()
    assert supervisor.result(call, 5).json["kind"] == "exit"
    assert host.order.killed.wait(5)


def test_the_death_of_the_actor_fences_a_host_whose_socket_is_open(fake):
    supervisor = fake.supervisor()
    call = supervisor.run(supervisor.open(spec()), BODY)
    host = fake.host()
    run = host.run()
    host.order.end("actor", "the node died")
    assert supervisor.result(call).json["kind"] == "actor"
    assert host.closed()
    host.order.killed.wait(5)
    supervisor.settle()
    assert not [frame for frame in supervisor.inbox if frame.call == run.call]


def test_a_silent_host_is_fenced():
    with FakeGateway(ping_seconds=0.05, silent_seconds=0.3) as fake:
        supervisor = fake.supervisor()
        call = supervisor.run(supervisor.open(spec()), BODY)
        host = fake.host()
        host.run()
        lost = supervisor.result(call)
        assert lost.json["kind"] == "heartbeat"
        assert host.order.killed.wait(5)


def test_a_silent_supervisor_is_disconnected():
    with FakeGateway(ping_seconds=0.05, silent_seconds=0.3) as fake:
        supervisor = fake.supervisor()
        until(lambda: fake.look(lambda gateway: gateway.supervisors[supervisor.id].connection is None), "it is disconnected")


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


async def never_placed(cluster, placed, name, spec, orders, on_placed):
    await asyncio.Event().wait()


def test_a_pool_that_nobody_uses_gives_up_its_hosts():
    with FakeGateway(idle_seconds=0.05) as fake:
        first, second = fake.supervisor(), fake.supervisor()
        call = first.run(first.open(spec()), BODY)
        host = fake.host()
        host.answer(host.run())
        first.result(call)
        first.send("BYE")
        assert host.next("BYE")
        until(lambda: not fake.look(lambda gateway: gateway.pools), "the pool is forgotten")
        second.settle()


def test_the_gateway_ends_when_no_supervisor_is_left():
    with FakeGateway(idle_seconds=0.2) as fake:
        supervisor = fake.supervisor(lease=0.1)
        supervisor.close()
        fake.thread.join(10)
        assert not fake.thread.is_alive()
        fake.loop = NoLoop()


class NoLoop:
    def call_soon_threadsafe(self, *_):
        """The gateway has ended by itself."""


def test_a_drain_lets_calls_end_and_gives_back_the_rest(fake):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    quick, slow = supervisor.run(pool, BODY), supervisor.run(pool, BODY)
    host = fake.host(slots=2)
    run = host.run()
    host.run()
    waiting = supervisor.run(pool, BODY)
    supervisor.settle()
    fake.loop.call_soon_threadsafe(lambda: fake.loop.create_task(fake.gateway.drain(0.5)))
    until(lambda: fake.look(lambda gateway: gateway.stopping), "it drains")
    host.answer(run, b"1")
    assert supervisor.result(quick).body == b"1"
    detail = "the gateway was stopped"
    assert supervisor.result(slow).json == {"kind": "terminated", "detail": detail, "collateral": True}
    assert supervisor.result(waiting).json == unplaced("unreachable", detail)
    assert supervisor.next("BYE") and supervisor.closed()
