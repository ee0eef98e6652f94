"""A gateway on the test's own loop. Its connections lead nowhere, and write down what is sent."""

import asyncio

from effect_ray_gateway import frames
from effect_ray_gateway.calls import Call
from effect_ray_gateway.config import Config
from effect_ray_gateway.connection import Connection
from effect_ray_gateway.gateway import Gateway
from effect_ray_gateway.supervisors import Supervisor

from .client import NAMES
from .fake import FakeCluster, spec

TYPES = {number: name for name, number in NAMES.items()}


class Wire(Connection):
    """A connection without a socket."""

    def __init__(self, gateway):
        super().__init__(gateway)
        self.sent = []

    def send(self, data):
        self.sent.append(data)

    def read_sent(self):
        """The type and the call of what was sent since the last look."""
        sent, self.sent = self.sent, []
        heads = [frames.HEAD.unpack_from(data) for data in sent]
        return [(TYPES[head[2]], head[5]) for head in heads]

    def count(self, type_):
        """How many frames of a type were sent since the last look."""
        return [name for name, _ in self.read_sent()].count(type_)


class World:
    """The gateway, and what a test puts into it."""

    def __init__(self):
        self.gateway = Gateway(Config("test", 1), "secret")
        self.cluster = self.gateway.cluster = FakeCluster()
        self.calls = 0

    def supervisor(self, id_="one"):
        """A supervisor that is connected."""
        supervisor = Supervisor(self.gateway, self.gateway._next_number(), {"id": id_})
        self.gateway.supervisors[id_] = supervisor
        supervisor.connect(Wire(self.gateway), {"id": id_})
        return supervisor

    def pool(self, supervisor, **changes):
        """A pool that the supervisor has opened."""
        ref = len(supervisor.pools) + 1
        supervisor.receive(frames.POOL, 0, 0, 0, frames.json_frame(frames.POOL, spec(ref, **changes)))
        return next(pool for number, pool in supervisor.pools.items() if supervisor.refs[number] == ref)

    def host(self, pool, slots=1):
        """A host of the pool that has come up, and that its fleet did not ask for."""
        return self.dial(self.gateway.new_host(pool), slots)

    def dial(self, host, slots=1):
        """The host comes up."""
        host.connect(Wire(self.gateway), {"slots": slots, "pid": 1, "node": "test"})
        host.connection.read_sent()
        return host

    def call(self, supervisor, pool, alone=False, priority=5, size=0):
        """A call that nobody has yet."""
        self.calls += 1
        number = supervisor.number << 48 | self.calls
        call = Call(number, frames.frame(frames.RUN, bytes(size), call=number), supervisor, pool, priority, alone)
        supervisor.calls[number] = call
        return call

    def submit(self, supervisor, pool, **rest):
        """A call that the pool has."""
        call = self.call(supervisor, pool, **rest)
        pool.submit(call)
        return call

    def answer(self, call):
        """The host's RESULT of a call."""
        call.host.receive(frames.RESULT, 0, 0, call.number, frames.frame(frames.RESULT, b"1", call=call.number))


def run(main):
    """Runs a test on a loop of its own."""
    async def on_loop():
        await main(World())

    asyncio.run(on_loop())


async def settle():
    """Lets what is due at once happen."""
    for _ in range(5):
        await asyncio.sleep(0)
