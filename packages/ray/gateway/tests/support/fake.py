"""A gateway in a thread of this process, whose cluster only writes down which hosts it was asked for."""

import asyncio
import concurrent.futures
import secrets
import threading

from effect_ray_gateway import gateway as gateway_module
from effect_ray_gateway.config import Config
from effect_ray_gateway.gateway import Gateway
from effect_ray_gateway.placement import Exit

from .client import Client, Host, Supervisor
from .poll import until

# What is due is done soon: most of these tests wait for a tick or several.
gateway_module.TICK_SECONDS = 0.05

SPEC = {
    "ref": 1,
    "runtime": "node",
    "package": "gcs://_ray_pkg_test.zip",
    "placement": {"cpus": 1, "concurrency": 10, "maxHosts": 1, "thread": "worker", "pip": []},
    "env": {},
    "limits": {"maxResultBytes": 2 << 20, "maxPayloadBytes": 2 << 20, "graceMillis": 1000},
}


def spec(ref=1, placement=None, limits=None, **rest):
    """A pool's spec with some of it changed."""
    return {
        **SPEC, "ref": ref, "placement": {**SPEC["placement"], **(placement or {})}, "limits": {**SPEC["limits"], **(limits or {})}, **rest,
    }


class Order:
    """A host that the gateway asked for."""

    def __init__(self, placed, name, orders, on_placed, loop):
        self.placed, self.name, self.orders, self.loop = placed, name, orders, loop
        self.exit = loop.create_future()
        self.killed = threading.Event()
        placed.on_kill = self.kill
        on_placed()

    def kill(self):
        self.killed.set()
        if not self.exit.done():
            self.exit.set_result(Exit("killed", "killed by the gateway"))

    def end(self, kind, detail="by the test"):
        """The host's process ends."""
        def ended():
            if not self.exit.done():
                self.exit.set_result(Exit(kind, detail))
        self.loop.call_soon_threadsafe(ended)


class FakeCluster:
    """Places every host at once, in the test's hands."""

    def __init__(self):
        self.orders = []
        self.misfits = []
        self.missing = None
        self.asked = 0
        self.lacks = "CPU 1, available 0 of 1"

    async def misfit(self, placement):
        return self.missing

    async def shortage(self, placement):
        self.asked += 1
        return self.lacks

    async def run(self, placed, name, spec, orders, on_placed):
        order = Order(placed, name, orders, on_placed, asyncio.get_running_loop())
        self.orders.append(order)
        return await order.exit


class FakeGateway:
    """The gateway under test; `with` starts and ends its thread."""

    def __init__(self, retained=None, **config):
        self.config = Config("test", 1, **config)
        self.secret = secrets.token_hex(32)
        self.cluster = FakeCluster()
        self.retained = retained or {}
        self.taken = 0
        self.clients = []

    def __enter__(self):
        ready = concurrent.futures.Future()
        self.thread = threading.Thread(target=lambda: asyncio.run(self._main(ready)))
        self.thread.start()
        self.address = ready.result(10)
        return self

    async def _main(self, ready):
        self.loop = asyncio.get_running_loop()
        self.gateway = Gateway(self.config, self.secret, **self.retained)
        self.gateway.cluster = self.cluster
        server = await self.gateway.listen("127.0.0.1", 0)
        ready.set_result(server.sockets[0].getsockname())
        await self.gateway.keep_time()
        server.close()

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.gateway.done.set)
        self.thread.join(10)
        for client in self.clients:
            client.close()
        assert not self.thread.is_alive()

    def _keep(self, client):
        self.clients.append(client)
        return client

    def client(self):
        return self._keep(Client(self.address))

    def supervisor(self, **options):
        return self._keep(Supervisor(self.address, self.secret, **options))

    def order(self):
        """The next host that the gateway asks for."""
        order = until(lambda: self.cluster.orders[self.taken :][:1], "the gateway asks for a host")[0]
        self.taken += 1
        return order

    def host(self, slots=1, order=None):
        """Dials as the next host that the gateway asks for."""
        order = order or self.order()
        host = self._keep(Host(self.address, order.orders, slots))
        host.order = order
        return host

    def look(self, function):
        """Something read on the gateway's own thread."""
        async def ask():
            return function(self.gateway)
        return asyncio.run_coroutine_threadsafe(ask(), self.loop).result(10)
