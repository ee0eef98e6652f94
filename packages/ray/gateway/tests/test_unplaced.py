"""Calls that get no host: what they are told, and when they are given back."""

import time

from effect_ray_gateway import hosts as hosts_module
from effect_ray_gateway import fleet as fleet_module
from support.fake import FakeGateway, spec
from support.poll import until
from support.pools import BODY, never_placed, serves, state_of, unplaced


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
            assert supervisor.result(call).json == unplaced("starting", "its process is starting")
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
