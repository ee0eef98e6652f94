"""Pools: who shares them, when hosts are started, and when they and the gateway end."""

import pytest

from support.fake import FakeGateway, spec
from support.poll import until
from support.pools import BODY, state_of, unplaced


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
