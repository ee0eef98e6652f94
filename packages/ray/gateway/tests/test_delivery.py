"""A call's way through the gateway: once to a host, and its end back until it is acknowledged."""

import os
import struct

import pytest

from effect_ray_gateway import connection
from effect_ray_gateway import hosts as hosts_module
from support.client import pack
from support.fake import FakeGateway, spec
from support.poll import until

BODY = b'{"task":"Test"}\n[1,2,3]'


@pytest.fixture
def served(fake):
    """A supervisor with a pool and a host of ten slots."""
    return serve(fake)


def serve(fake, slots=10, **options):
    supervisor = fake.supervisor(**options)
    supervisor.pool = supervisor.open(spec())
    first = supervisor.run(supervisor.pool, BODY)
    host = fake.host(slots)
    host.answer(host.run())
    supervisor.result(first)
    supervisor.ack(first)
    return supervisor, host


def held(fake):
    """How many calls the gateway knows, and the bytes that it keeps."""
    return fake.look(
        lambda gateway: (
            sum(len(supervisor.calls) for supervisor in gateway.supervisors.values()),
            gateway.retained.memory_bytes + gateway.retained.file_bytes,
        )
    )


def test_forwards_byte_for_byte(served):
    supervisor, host = served
    call = supervisor.run(supervisor.pool, BODY, fence=77)
    run = host.run()
    assert (run.body, run.call, run.fence, run.route) == (BODY, call, 77, supervisor.pool)
    host.send("STARTED", route=host.number, call=call, execution=run.execution, fence=77)
    host.answer(run, b'{"bytes":42}', kind=1)
    started, result = supervisor.started(call), supervisor.result(call)
    assert (started.route, result.route, result.kind, result.body) == (host.number, host.number, 1, b'{"bytes":42}')
    assert (result.execution, result.fence) == (run.execution, 77)


def test_says_where_a_call_runs_before_it_says_anything_else(fake):
    supervisor = fake.supervisor()
    call = supervisor.run(supervisor.open(spec()), BODY)
    host = fake.host()
    host.answer(host.run())
    supervisor.result(call)
    up = [frame.json for frame in supervisor.inbox if frame.type == "HOST_UP"]
    assert up == [{"number": host.number, "pool": 1, "host": "test-e1-host-1", "node": "test", "pid": 0}]


def test_large_bodies_pass_both_ways_beside_small_ones(served):
    supervisor, host = served
    large = os.urandom(1_000_000)
    big, small = supervisor.run(supervisor.pool, large), supervisor.run(supervisor.pool, BODY)
    body, frames = b"", 0
    while True:
        run = host.next(lambda frame: frame.type == "RUN" and frame.call == big)
        body, frames = body + run.body, frames + 1
        if not run.flags & 1:
            break
    assert (body, frames) == (large, 4)
    other = host.run()
    assert other.call == small
    # The chunks of the large result stand around the small one.
    header = {"route": host.number, "call": big, "execution": run.execution, "fence": run.fence}
    host.send("RESULT", large[:262_144], 1, **header)
    host.answer(other, b"1")
    host.send("RESULT", large[262_144:500_000], 1, **header)
    host.send("RESULT", large[500_000:750_000], 1, **header)
    assert supervisor.result(small).body == b"1"
    host.send("RESULT", large[750_000:], 0, **header)
    assert supervisor.result(big).body == large


def test_a_body_over_the_pools_limit_ends_the_connection(fake):
    supervisor = fake.supervisor()
    pool = supervisor.open(spec(limits={"maxPayloadBytes": 100_000}))
    supervisor.run(pool, bytes(164_000))
    supervisor.settle()
    supervisor.run(pool, bytes(300_000))
    assert "165536" in supervisor.next("REFUSED").json["reason"]


def test_a_run_of_another_supervisor_or_pool_is_refused(fake):
    for header in ({"route": 9, "call": 1 << 48}, {"route": 1, "call": 9 << 48}):
        supervisor = fake.supervisor()
        supervisor.open(spec())
        supervisor.send("RUN", BODY, **header)
        assert supervisor.next("REFUSED")


def test_keeps_a_result_until_it_is_acknowledged(fake, served):
    supervisor, host = served
    call = supervisor.run(supervisor.pool, BODY)
    host.answer(host.run(), b"1234")
    supervisor.result(call)
    assert held(fake) == (1, 44 + 4 + 512)
    supervisor.ack(call)
    supervisor.settle()
    assert held(fake) == (0, 0)


def test_a_supervisor_that_reconnects_finds_everything_as_it_was(fake, served):
    supervisor, host = served
    done, running, waiting = (supervisor.run(supervisor.pool, BODY) for _ in range(3))
    host.answer(host.run(), b"1")
    second, third = host.run(), host.run()
    host.send("STARTED", route=host.number, call=running, execution=second.execution, fence=second.fence)
    supervisor.started(running)
    supervisor.close()
    until(lambda: fake.look(lambda gateway: gateway.supervisors[supervisor.id].connection is None), "it is away")
    host.answer(third, b"3")
    again = fake.supervisor(id_=supervisor.id)
    assert (again.number, again.welcome["instance"]) == (supervisor.number, supervisor.welcome["instance"])
    assert again.next("HOST_UP").json["number"] == host.number
    again.sent = supervisor.sent
    for call in (done, running, waiting):
        again.again(call)
    assert again.result(done).body == b"1"
    assert again.started(running).route == host.number
    assert again.result(waiting).body == b"3"
    host.answer(second, b"2")
    assert again.result(running).body == b"2"
    # None of them was run a second time.
    host.settle()
    assert not [frame for frame in host.inbox if frame.type == "RUN"]
    again.ack(done, running, waiting)
    again.settle()
    assert held(fake) == (0, 0)


def test_results_that_are_asked_for_again_do_not_pile_up_for_one_that_does_not_read(fake):
    count, large = 40, os.urandom(1_000_000)
    supervisor, host = serve(fake, slots=count)
    calls = [supervisor.run(supervisor.pool, BODY) for _ in range(count)]
    supervisor.settle()
    supervisor.close()
    until(lambda: fake.look(lambda gateway: gateway.supervisors[supervisor.id].connection is None), "it is away")
    for _ in calls:
        host.answer(host.run(), large)
    until(lambda: held(fake)[1] > count * len(large), "the results are here")
    again = fake.supervisor(id_=supervisor.id, receive_buffer=4096)
    again.socket.sendall(b"".join(supervisor.sent[call] for call in calls))

    def unsent(gateway):
        transport = gateway.supervisors[supervisor.id].connection._transport
        return transport.get_write_buffer_size()

    until(lambda: fake.look(lambda gateway: gateway.supervisors[supervisor.id].blocked), "it counts as slow")
    assert fake.look(unsent) <= connection.WRITE_HIGH_BYTES + 2 * len(large)
    # One that is settled meanwhile is not sent any more.
    again.ack(calls[-1])
    for call in calls[:-1]:
        assert again.result(call).body == large
    again.ack(*calls)
    again.settle()
    assert held(fake) == (0, 0)
    assert not [frame for frame in again.inbox if frame.type == "RESULT"]


def test_a_half_sent_run_is_forgotten_with_its_connection(fake, served):
    supervisor, host = served
    call = supervisor.number << 48 | 900
    supervisor.send("RUN", bytes(1000), 1, route=supervisor.pool, call=call)
    supervisor.settle()
    supervisor.close()
    again = fake.supervisor(id_=supervisor.id)
    again.send("RUN", b"whole", route=supervisor.pool, call=call)
    assert host.run().body == b"whole"


def test_the_newest_connection_of_a_supervisor_wins(fake, served):
    supervisor, _ = served
    again = fake.supervisor(id_=supervisor.id)
    assert supervisor.closed()
    again.settle()


def test_when_the_lease_ends_the_attempts_are_cancelled(fake):
    supervisor, host = serve(fake, slots=1, lease=0.2)
    running, _ = supervisor.run(supervisor.pool, BODY), supervisor.run(supervisor.pool, BODY)
    run = host.run()
    supervisor.close()
    cancel = host.next("CANCEL")
    assert (cancel.call, cancel.json) == (running, {"graceMillis": 1000})
    host.answer(run, kind=3)
    host.settle()
    # The second call was dropped, and the host serves others.
    other = fake.supervisor()
    call = other.run(other.open(spec()), BODY)
    assert host.run().call == call
    assert held(fake) == (1, 0)
    back = fake.supervisor(id_=supervisor.id)
    assert back.number != supervisor.number


def test_goodbye_ends_the_attempts_at_once(fake, served):
    supervisor, host = served
    call = supervisor.run(supervisor.pool, BODY)
    host.run()
    supervisor.send("BYE")
    assert host.next("CANCEL").call == call
    assert supervisor.next("BYE") and supervisor.closed()
    assert fake.look(lambda gateway: gateway.supervisors) == {}


def test_a_drain_ends_at_its_deadline(fake, served):
    supervisor, host = served
    call = supervisor.run(supervisor.pool, BODY)
    host.run()
    supervisor.send("DRAIN", {"deadlineSeconds": 0.1})
    assert host.next("CANCEL").call == call
    assert supervisor.next("BYE")


def test_cancels_a_running_call_through_its_host(served):
    supervisor, host = served
    call = supervisor.run(supervisor.pool, BODY)
    run = host.run()
    supervisor.cancel(call, 50)
    assert host.next("CANCEL").json == {"graceMillis": 50}
    host.answer(run, kind=3)
    assert supervisor.result(call).kind == 3


def test_cancels_a_waiting_call_itself(fake):
    supervisor, host = serve(fake, slots=1)
    first, second, third = (supervisor.run(supervisor.pool, BODY) for _ in range(3))
    supervisor.cancel(second)
    ended = supervisor.result(second)
    assert (ended.kind, ended.route, ended.fence) == (3, 0, 1)
    host.answer(host.run())
    assert host.run().call == third
    supervisor.result(first)


def test_a_cancel_that_is_too_late_does_nothing(served):
    supervisor, host = served
    call = supervisor.run(supervisor.pool, BODY)
    host.answer(host.run())
    supervisor.result(call)
    supervisor.cancel(call)
    supervisor.cancel(12345)
    host.settle()
    assert not host.inbox


def test_a_host_that_ignores_a_cancel_is_killed(fake, served, monkeypatch):
    monkeypatch.setattr(hosts_module, "CANCEL_MARGIN_SECONDS", 0)
    supervisor, host = served
    stuck, innocent = supervisor.run(supervisor.pool, BODY), supervisor.run(supervisor.pool, BODY)
    host.run(), host.run()
    supervisor.cancel(stuck, 10)
    ended, other = supervisor.result(stuck).json, supervisor.result(innocent).json
    assert (ended["kind"], ended["collateral"]) == ("terminated", False)
    assert (other["kind"], other["collateral"]) == ("terminated", True)
    assert host.order.killed.wait(5)


def test_a_host_may_report_an_attempt_as_lost_and_ask_to_be_replaced(served):
    supervisor, host = served
    stuck, innocent = supervisor.run(supervisor.pool, BODY), supervisor.run(supervisor.pool, BODY)
    run = host.run()
    host.answer(run, b'{"kind":"terminated","detail":"stuck","collateral":false}', type_="LOST")
    host.send("BYE")
    assert supervisor.result(stuck).json["collateral"] is False
    assert supervisor.result(innocent).json == {
        "kind": "terminated", "detail": "the host asked to be replaced", "collateral": True,
    }
    assert host.order.killed.wait(5)


def test_a_host_cannot_answer_for_a_call_that_it_does_not_have(fake):
    supervisor = fake.supervisor()
    first, second = supervisor.open(spec(1)), supervisor.open(spec(2, env={"A": "1"}))
    mine = supervisor.run(first, BODY)
    supervisor.run(second, BODY)
    host, stranger = fake.host(), fake.host()
    run, _ = host.run(), stranger.run()
    stranger.answer(run, b'"forged"')
    stranger.settle()
    host.answer(run, b'"true"')
    assert supervisor.result(mine).body == b'"true"'


def test_results_that_nobody_acknowledges_are_bounded():
    with FakeGateway(retained={"max_memory_bytes": 1_000_000, "max_file_bytes": 0}) as fake:
        supervisor, host = serve(fake)
        calls = [supervisor.run(supervisor.pool, BODY) for _ in range(10)]
        runs = [host.run() for _ in range(10)]
        for run in runs[:6]:
            host.answer(run, bytes(250_000))
        for call in calls[:4]:
            supervisor.result(call)
        # The gateway has stopped reading: a PING of the host is not answered, and nothing was discarded.
        until(lambda: not fake.look(lambda gateway: gateway._reading), "it stops reading")
        for run in runs[6:]:
            host.answer(run, bytes(250_000))
        host.send("PING")
        assert held(fake)[1] <= 1_000_000 + 2 * 300_000
        with pytest.raises(AssertionError):
            host.next("PONG", 0.3)
        for call in calls:
            if call not in calls[:4]:
                assert supervisor.result(call).body == bytes(250_000)
            supervisor.ack(call)
        host.next("PONG")
        assert held(fake)[1] == 0


def test_a_host_that_is_not_read_from_is_not_blamed_for_its_silence(monkeypatch):
    monkeypatch.setattr(hosts_module, "CANCEL_MARGIN_SECONDS", 0.2)
    with FakeGateway(retained={"max_memory_bytes": 500_000, "max_file_bytes": 0}, ping_seconds=0.05) as fake:
        supervisor, host = serve(fake)
        calls = [supervisor.run(supervisor.pool, BODY) for _ in range(4)]
        runs = [host.run() for _ in range(4)]
        for run in runs[:3]:
            host.answer(run, bytes(300_000))
        for call in calls[:3]:
            supervisor.result(call)
        until(lambda: not fake.look(lambda gateway: gateway._reading), "it stops reading")
        supervisor.cancel(calls[3], 0)
        host.next("CANCEL")
        host.answer(runs[3], kind=3)
        assert not host.order.killed.wait(1), "several margins have passed"
        supervisor.ack(*calls[:3])
        assert supervisor.result(calls[3]).kind == 3


def test_a_frame_that_cannot_be_handled_harms_no_other_connection(fake, served):
    supervisor, host = served
    other = fake.supervisor()
    pool = other.open(spec(1))
    call = other.run(pool, BODY)
    run = host.run()
    # A RUN, and in the same write what nobody can parse.
    deep = b"[" * 200_000
    supervisor.calls += 1
    number = supervisor.number << 48 | supervisor.calls
    frames = pack("RUN", BODY, route=supervisor.pool, call=number) + pack("CANCEL", deep, call=other.number << 48 | 1)
    supervisor.socket.sendall(frames + pack("CANCEL", deep, call=number))
    assert host.run().call == number
    assert supervisor.next("REFUSED")
    host.answer(run, b"1")
    assert other.result(call).body == b"1"
    host.settle()


def test_results_that_memory_cannot_hold_are_kept_on_disk():
    with FakeGateway(retained={"max_memory_bytes": 500_000}) as fake:
        supervisor, host = serve(fake)
        calls = [supervisor.run(supervisor.pool, BODY) for _ in range(10)]
        for number in range(10):
            host.answer(host.run(), bytes([number]) * 250_000)
        for call in calls:
            supervisor.result(call)
        assert fake.look(lambda gateway: gateway.retained.file_bytes) >= 7 * 250_000
        host.send("PING")
        host.next("PONG")
        # Whoever comes back and asks gets them from there.
        again = fake.supervisor(id_=supervisor.id)
        again.sent = supervisor.sent
        for number, call in enumerate(calls):
            again.again(call)
            assert again.result(call).body == bytes([number]) * 250_000
            again.ack(call)
        again.settle()
        assert held(fake) == (0, 0)


def test_frames_for_unknown_calls_are_harmless(served):
    supervisor, host = served
    for type_ in ("RESULT", "STARTED", "LOST"):
        host.send(type_, b"{}", call=99, route=host.number)
    supervisor.ack(1, 2, 3)
    supervisor.send("ACK", struct.pack(">0Q"))
    host.settle()
    supervisor.settle()


def test_a_frame_that_hosts_do_not_send_fences_the_host(served):
    supervisor, host = served
    call = supervisor.run(supervisor.pool, BODY)
    host.run()
    host.socket.sendall(pack("POOL", b"{}"))
    assert supervisor.result(call).type == "LOST"
    assert host.order.killed.wait(5)
