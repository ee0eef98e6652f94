"""Credit, fair turns, and calls that must be alone."""

import pytest

from effect_ray_gateway import connection, frames, hosts, supervisors
from support.client import pack, proof
from support.fake import FakeGateway, spec
from support.poll import until

BODY = b"{}"


def granted(client):
    """The credit that came back so far."""
    client.settle()
    back = [frames.read_credit(bytes(44) + frame.body) for frame in client.inbox if frame.type == "CREDIT"]
    return sum(count for count, _ in back), sum(size for _, size in back)


def test_credit_comes_back_when_a_run_goes_to_a_host(fake, monkeypatch):
    monkeypatch.setattr(supervisors, "CREDIT_FRAMES", 4)
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    assert supervisor.welcome["credit"]["frames"] == 4
    for _ in range(4):
        supervisor.run(pool, BODY)
    assert granted(supervisor) == (0, 0)
    host = fake.host(slots=2)
    until(lambda: granted(supervisor) == (2, 2 * 46), "two are passed on")
    host.answer(host.run())
    until(lambda: granted(supervisor) == (3, 3 * 46), "one more is passed on")


def test_a_run_that_comes_again_on_another_connection_holds_the_credit_of_that_one(fake, monkeypatch):
    monkeypatch.setattr(supervisors, "CREDIT_FRAMES", 4)
    first = fake.supervisor()
    pool = first.open(spec())
    calls = [first.run(pool, BODY) for _ in range(4)]
    first.settle()
    again = fake.supervisor(id_=first.id)
    again.open(spec())
    again.sent = first.sent
    for call in calls[:3]:
        again.again(call)
    assert granted(again) == (0, 0)
    # One that is known on this connection already, and one that was not sent on it, take none.
    again.again(calls[0])
    again.cancel(calls[3])
    again.result(calls[3])
    assert granted(again) == (1, 46)
    host = fake.host(slots=4)
    for _ in range(3):
        host.run()
    assert granted(again) == (4, 4 * 46)


def test_more_frames_than_credit_end_the_connection(fake, monkeypatch):
    monkeypatch.setattr(supervisors, "CREDIT_FRAMES", 4)
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    for _ in range(5):
        supervisor.run(pool, BODY)
    assert "credit" in supervisor.next("REFUSED").json["reason"]


def test_bodies_that_are_never_whole_are_bounded_by_credit(fake, monkeypatch):
    monkeypatch.setattr(supervisors, "CREDIT_BYTES", 1_000_000)
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    most = fake.look(lambda gateway: gateway.supervisors[supervisor.id].intake._max_used_bytes)
    for number in range(most // 250_000 + 1):
        # The first chunk of another body each time.
        supervisor.send("RUN", bytes(250_000), flags=1, route=pool, call=supervisor.number << 48 | number)
    assert "bytes without credit" in supervisor.next("REFUSED").json["reason"]


def test_what_a_host_says_of_a_lost_attempt_costs_no_credit(fake):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    host = None
    for _ in range(200):
        call = supervisor.run(pool, BODY)
        host = host or fake.host()
        host.answer(host.run(), b'{"kind":"exit","detail":"a thread is gone","collateral":false}', type_="LOST")
        supervisor.result(call)
        supervisor.ack(call)
    assert granted(host) == (0, 0)


def test_pings_of_one_that_does_not_read_do_not_pile_up(fake):
    supervisor = fake.supervisor(receive_buffer=4096)
    pings = pack("PING") * 10_000
    for _ in range(60):
        supervisor.socket.sendall(pings)

    def unsent(gateway):
        transport = gateway.supervisors[supervisor.id].connection._transport
        return transport.get_write_buffer_size()

    until(lambda: fake.look(lambda gateway: gateway.supervisors[supervisor.id].blocked), "it counts as slow")
    assert fake.look(unsent) <= connection.WRITE_HIGH_BYTES + 512 * 1024
    supervisor.settle()


def test_a_body_of_many_chunks_needs_no_more_frames_than_it_may(fake, monkeypatch):
    monkeypatch.setattr(supervisors, "CREDIT_FRAMES", 2)
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    supervisor.run(pool, bytes(1_500_000))
    host = fake.host()
    size, last = 0, None
    while last is None or last.flags & 1:
        last = host.run()
        size += len(last.body)
    assert size == 1_500_000
    assert granted(supervisor)[0] == 6


def test_cancelled_waiting_calls_return_their_credit(fake, monkeypatch):
    monkeypatch.setattr(supervisors, "CREDIT_FRAMES", 4)
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    for _ in range(4):
        supervisor.cancel(supervisor.run(pool, BODY))
    until(lambda: granted(supervisor)[0] == 4, "all of it is back")


def test_a_hosts_credit_comes_back_with_its_results(fake):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    for _ in range(40):
        supervisor.run(pool, BODY)
    host = fake.host(slots=1)
    window = host.welcome["credit"]["frames"]
    for _ in range(40):
        host.answer(host.run())
    assert 40 - window // 4 <= granted(host)[0] <= 40


def test_a_supervisor_that_does_not_read_holds_back_only_itself(fake):
    slow = fake.supervisor(receive_buffer=4096)
    pool = slow.open(spec(limits={"maxResultBytes": 2 << 20}))
    calls = [slow.run(pool, BODY) for _ in range(30)]
    host = fake.host(slots=4)
    served = 0
    while not fake.look(lambda gateway: gateway.supervisors[slow.id].blocked):
        host.answer(host.run(), bytes(1_000_000))
        served += 1
        host.settle()
    quick = fake.supervisor()
    other = quick.open(spec(limits={"maxResultBytes": 2 << 20}))
    call = quick.run(other, BODY)
    # The slots that the slow one still has are given back; none of its waiting calls takes them.
    found = None
    while found is None:
        run = host.run()
        served += 1
        host.answer(run, b"1")
        found = run if run.call == call else None
    assert quick.result(call).body == b"1"
    host.settle()
    assert not [frame for frame in host.inbox if frame.type == "RUN"]
    # As soon as it reads, it gets everything.
    for _ in range(30 - served + 1):
        slow_run = host_run_while_reading(slow, host)
        host.answer(slow_run, b"2")
    for call in calls:
        slow.result(call)


def host_run_while_reading(supervisor, host):
    """The host's next RUN, while the supervisor reads."""
    def look():
        supervisor.settle()
        host.settle()
        return next((frame for frame in host.inbox if frame.type == "RUN"), None)
    run = until(look, "the next RUN")
    host.inbox.remove(run)
    return run


def test_supervisors_take_turns(fake):
    greedy, modest = fake.supervisor(), fake.supervisor()
    pool = greedy.open(spec())
    for _ in range(200):
        greedy.run(pool, BODY)
    greedy.settle()
    modest.open(spec())
    wanted = {modest.run(pool, BODY) for _ in range(20)}
    modest.settle()
    host = fake.host(slots=1)
    order = []
    while wanted:
        run = host.run()
        order.append(run.call in wanted)
        wanted.discard(run.call)
        host.answer(run)
    # Both get the same share: twenty calls of the one need about as many of the other.
    assert len(order) <= 20 + 20 + 8


def test_large_calls_use_up_a_turn_sooner(fake):
    large, small = fake.supervisor(), fake.supervisor()
    pool = large.open(spec())
    wanted = {large.run(pool, bytes(600_000)) for _ in range(10)}
    large.settle()
    small.open(spec())
    for _ in range(200):
        small.run(pool, BODY)
    small.settle()
    host = fake.host(slots=1)
    count = 0
    while wanted:
        run = host.run()
        if run.flags & 1:
            continue
        count += run.call not in wanted
        wanted.discard(run.call)
        host.answer(run)
    assert count >= 80


@pytest.mark.parametrize("busy", [False, True])
def test_a_suspect_runs_alone(fake, busy):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    before = [supervisor.run(pool, BODY) for _ in range(2)] if busy else []
    if busy:
        host = fake.host(slots=10)
        runs = [host.run() for _ in before]
    suspect = supervisor.run(pool, BODY, flags=2)
    after = [supervisor.run(pool, BODY) for _ in range(3)]
    if busy:
        host.settle()
        assert not [frame for frame in host.inbox if frame.type == "RUN"]
        for run in runs:
            host.answer(run)
    else:
        host = fake.host(slots=10)
    run = host.run()
    assert run.call == suspect
    host.settle()
    assert not [frame for frame in host.inbox if frame.type == "RUN"]
    host.answer(run)
    assert {host.run().call for _ in after} == set(after)


def test_half_of_the_hosts_are_set_aside_for_suspects(fake):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec(placement={"maxHosts": 4}))
    for _ in range(8):
        supervisor.run(pool, BODY)
    hosts = [fake.host(slots=2) for _ in range(4)]
    runs = [[host.run(), host.run()] for host in hosts]
    suspects = {supervisor.run(pool, BODY, flags=2) for _ in range(3)}
    supervisor.settle()
    for _ in range(4):
        supervisor.run(pool, BODY)
    # Each host has one call left, and gets another unless it is set aside.
    for host, (first, _) in zip(hosts, runs):
        host.answer(first)
    supervisor.settle()
    given = [len([frame for frame in host.inbox if frame.type == "RUN"]) for host in hosts if host.settle() is None]
    assert sorted(given) == [0, 0, 1, 1]
    for host, number, (_, second) in zip(hosts, given, runs):
        if not number:
            host.answer(second)
    aside = [host for host, number in zip(hosts, given) if not number]
    began = [host.run() for host in aside]
    aside[0].answer(began[0])
    assert {run.call for run in [*began, aside[0].run()]} == suspects


def test_a_suspect_does_not_wait_for_a_host_that_died(fake):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec())
    done, first = supervisor.run(pool, BODY), supervisor.run(pool, BODY)
    host = fake.host(slots=10)
    host.answer(host.run())
    supervisor.result(done)
    host.run()
    suspect = supervisor.run(pool, BODY, flags=2)
    supervisor.settle()
    host.close()
    host.order.end("killed")
    assert supervisor.result(first).type == "LOST"
    assert fake.host(slots=10).run().call == suspect


def test_a_supervisor_that_comes_back_is_welcomed_before_it_hears_anything_else(fake):
    first = fake.supervisor(receive_buffer=4096)
    pool = first.open(spec())
    for _ in range(5):
        first.run(pool, b"{}")
    host = fake.host(slots=10)
    # It does not read: its calls wait in the gateway, which returns no credit for them.
    for _ in range(5):
        host.answer(host.run(), bytes(2 << 20))
    until(lambda: fake.look(lambda gateway: gateway.supervisors[first.id].blocked), "it counts as slow")
    for _ in range(5):
        first.run(pool, bytes(2 << 20))
    until(lambda: fake.look(lambda gateway: sum(pool.dispatch.waiting for pool in gateway.pools.values())) == 5, "they wait")
    again = fake.client()
    nonce = "0" * 32
    again.send("HELLO", {"role": "supervisor", "id": first.id, "protocols": [1], "nonce": nonce, "maxBodyBytes": 1 << 20})
    own = again.next("CHALLENGE").json["nonce"]
    again.send("PROOF", {"proof": proof(fake.secret, "client", nonce, own)})
    assert again.next(lambda frame: True).type == "WELCOME"
    assert again.next("HOST_UP")


def test_a_host_without_credit_may_take_its_time_to_answer_a_cancel(monkeypatch):
    monkeypatch.setattr(hosts, "CANCEL_MARGIN_SECONDS", 0.05)
    # What the system still takes makes nobody fast again.
    monkeypatch.setattr(connection, "WRITE_LOW_BYTES", 0)
    with FakeGateway(ping_seconds=0.05) as fake:
        slow, other = fake.supervisor(receive_buffer=4096), fake.supervisor()
        pool = slow.open(spec())
        assert other.open(spec()) == pool
        call = other.run(pool, BODY)
        host = fake.host(slots=21)
        run = host.run()
        large = bytes(2 << 20)
        # The credit for these does not come back while one of the supervisors does not read.
        for _ in range(20):
            slow.run(pool, BODY)
        while not fake.look(lambda gateway: gateway.hosts[host.name].intake.spent):
            host.answer(host.run(), large)
            host.settle()
        other.cancel(call, 0)
        host.next("CANCEL")
        deadline = lambda gateway: gateway.hosts[host.name]._cancels[run.call]
        first = fake.look(deadline)
        until(lambda: fake.look(deadline) > first, "it is given more time")
        slow.close()
        host.next("CREDIT")
        host.answer(run, b"", kind=3)
        assert other.result(call).kind == 3
