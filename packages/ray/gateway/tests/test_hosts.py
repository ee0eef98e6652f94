"""Hosts: when one is set aside, fenced or given up, and how its death is told."""

import pytest

from effect_ray_gateway import hosts as hosts_module
from support.fake import FakeGateway, spec
from support.poll import until
from support.pools import BODY, serves, state_of


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
