"""Connections take turns: one that sends more than the gateway handles at once holds up nobody else."""

import asyncio
import threading
import time

import pytest

from effect_ray_gateway import frames
from effect_ray_gateway.connection import TURN_FRAMES, TURN_FREE_FRAMES, Connection
from support.client import Closed, pack

#: As many as one read of the gateway's takes of these.
FLOOD = 2_000


def test_one_that_floods_does_not_hold_up_another(fake):
    flooding, other = fake.supervisor(), fake.supervisor()
    begun, handled = threading.Event(), []
    opens = fake.gateway.open_pool

    def open_slowly(pool):
        handled.append(pool)
        begun.set()
        time.sleep(0.001)
        return opens(pool)

    fake.gateway.open_pool = open_slowly
    flooding.socket.sendall(pack("POOL", {"ref": 1}) * FLOOD)
    assert begun.wait(10)
    other.send("PING")
    other.next("PONG")
    assert len(handled) < FLOOD
    states = [flooding.next("POOL_STATE") for _ in range(FLOOD)]
    assert {state.json["state"] for state in states} == {"failed"} and len(handled) == FLOOD


@pytest.mark.parametrize("flood", ["PING", "ACK", "CREDIT"])
def test_every_frame_of_a_flood_is_handled_in_order_to_its_end(fake, flood):
    supervisor = fake.supervisor()
    body = bytes(8) if flood == "CREDIT" else b""
    supervisor.socket.sendall(b"".join(pack(flood, body) + pack("POOL", {"ref": number}) for number in range(FLOOD)) + pack("BYE"))
    refs = []
    with pytest.raises(Closed):
        while True:
            refs.append(supervisor.next("POOL_STATE").json["ref"])
    assert refs == list(range(FLOOD))
    assert sum(frame.type == "PONG" for frame in supervisor.inbox) == (FLOOD if flood == "PING" else 0)


class Transport:
    """Writes down whether it is read from."""

    def __init__(self):
        self.reading = True

    def set_write_buffer_limits(self, high, low):
        pass

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True

    def is_closing(self):
        return False

    def write(self, data):
        pass

    def abort(self):
        pass


class Listener:
    """Writes down what it is given."""

    def __init__(self):
        self.calls = []
        self.reason = None

    def receive(self, type_, flags, route, call, data):
        self.calls.append(call)

    def disconnected(self, connection, reason):
        self.reason = reason
        self.known = len(self.calls)

    def slow(self, connection, is_slow):
        pass


class Admission:
    """Lets everybody in."""

    def __init__(self):
        self.instance, self.connections, self.max_connections = "", set(), 10
        self.peer = Listener()

    def admit(self, connection, hello):
        return self.peer


COUNT = 3 * TURN_FRAMES + 1


def behind(type_=frames.RESULT):
    """A connection that has more frames than one turn takes, after its first turn."""
    connection = Connection(Admission())
    transport = Transport()
    connection._transport = transport
    connection._handle, connection._max_body = connection._receive, frames.MAX_FRAME_BODY_BYTES
    connection.peer = connection._gateway.peer
    connection.data_received(b"".join(frames.frame(type_, b"{}", call=call) for call in range(COUNT)))
    assert not transport.reading
    return connection, transport, connection.peer


async def settled(holds):
    while not holds():
        await asyncio.sleep(0)


@pytest.mark.parametrize("type_,most", [(frames.RESULT, TURN_FRAMES), (frames.RUN, TURN_FRAMES), (frames.ACK, TURN_FREE_FRAMES)])
def test_a_turn_has_a_bound_and_one_for_what_needs_no_credit_is_shorter(type_, most):
    async def main():
        _, _, peer = behind(type_)
        turns = [len(peer.calls)]
        while turns[-1] < COUNT:
            await asyncio.sleep(0)
            turns.append(len(peer.calls))
        assert turns == [*range(most, COUNT, most), COUNT]

    asyncio.run(main())


def test_nothing_more_is_read_until_what_was_read_is_handled():
    async def main():
        connection, transport, peer = behind()
        # A host that is not to be read from, because no results can be kept, stays so.
        connection.read(False)
        await settled(lambda: len(peer.calls) == COUNT)
        assert not transport.reading
        connection.read(True)
        assert transport.reading and peer.calls == list(range(COUNT))

    asyncio.run(main())


def test_what_was_read_counts_when_the_connection_is_cut_meanwhile():
    async def main():
        connection, _, peer = behind()
        connection.connection_lost(ConnectionResetError("cut"))
        assert peer.reason == "cut" and peer.known == COUNT

    asyncio.run(main())


def test_what_is_left_of_a_connection_that_was_ended_here_is_dropped():
    async def main():
        connection, _, peer = behind()
        handled = len(peer.calls)
        connection.abort("fenced")
        connection.connection_lost(None)
        for _ in range(10):
            await asyncio.sleep(0)
        assert peer.reason == "fenced" and len(peer.calls) == handled

    asyncio.run(main())
