"""The gateway's process: it listens, keeps track of supervisors, pools and hosts, runs timed work, and decides when to
end.
"""

import asyncio
import errno
import gc
import json
import os
import signal
import sys
import time
import uuid
from typing import Any, Awaitable, Callable, Dict, List, Optional, Set

from . import auth, fleet, frames, polling
from .config import Config, Listen, read_config, read_listen, require_private
from .connection import Connection, Peer
from .fleet import Fleet
from .hosts import Host
from .log import log
from .placement import Cluster, Exit
from .pool import Pool
from .pool_spec import PoolSpec
from .retained import Retained
from .supervisors import Supervisor

#: How often timed work runs.
TICK_SECONDS = 1
#: How long after the gateway's process did not run, calls are not blamed for the ends of their hosts.
AWAY_SECONDS = 5
MAX_CONNECTIONS = 10_000
MAX_SUPERVISORS = 65_535
MAX_ID_CHARS = 200
#: How long the last frames may take to be sent when the gateway ends.
GOODBYE_SECONDS = 0.5


class Gateway:
    """One instance of the gateway. All of it runs on one event loop."""

    def __init__(self, config: Config, secret: str, **retained_bounds: int) -> None:
        self.config = config
        self.instance = uuid.uuid4().hex
        self.connections: Set[Connection] = set()
        self.max_connections = MAX_CONNECTIONS
        self.supervisors: Dict[str, Supervisor] = {}
        self.pools: Dict[str, Pool] = {}
        self.hosts: Dict[str, Host] = {}
        #: The kept ends of calls of all supervisors. While there is no room for more, nothing is read from hosts.
        self.retained = Retained(lambda full: self._read_hosts(not full), **retained_bounds)
        #: Whether the gateway drains: it gives no calls to hosts and starts no hosts.
        self.stopping = False
        #: Set when the gateway can end.
        self.done = asyncio.Event()
        self.cluster: Optional[Cluster] = None
        self._secret = secret
        self._reading = True
        self._numbers = 0
        self._pool_numbers = 0
        self._host_numbers = 0
        self._alone_since = time.monotonic()
        self._ticked = time.monotonic()
        self._away_until = 0.0

    async def listen(self, host: str, port: int) -> "asyncio.Server":
        """Starts to listen. Uses the next port if an earlier gateway that still drains has this one."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.create_server(lambda: Connection(self), host, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port in (0, 65535):
                raise
            log("warning", "the port is taken, trying the next one", port=port)
            return await loop.create_server(lambda: Connection(self), host, port + 1)

    # Accepting clients

    def key_of(self, hello: Dict[str, Any]) -> str:
        role, id_ = hello.get("role"), hello.get("id")
        if not isinstance(id_, str) or not 0 < len(id_) <= MAX_ID_CHARS:
            raise frames.ProtocolError("the HELLO has no usable id")
        if role == "supervisor":
            return self._secret
        if role != "host":
            raise frames.ProtocolError("the role is neither supervisor nor host")
        host = self.hosts.get(id_)
        # An unknown host gets a random key: it fails at the proof, and learns nothing from that.
        return auth.token() if host is None or host.slots else host.token

    def admit(self, connection: Connection, hello: Dict[str, Any]) -> Peer:
        if hello["role"] == "host":
            host = self.hosts.get(hello["id"])
            if host is None or host.slots or host.fenced:
                raise frames.ProtocolError("the host is not expected")
            host.connect(connection, hello)
            connection.read(self._reading)
            return host
        if self.stopping:
            raise frames.Stopping("the gateway is stopping")
        supervisor = self.supervisors.get(hello["id"])
        if supervisor is None:
            supervisor = Supervisor(self, self._next_number(), hello)
            self.supervisors[supervisor.id] = supervisor
        supervisor.connect(connection, hello)
        log("info", "a supervisor is connected", supervisor=supervisor.id, number=supervisor.number)
        return supervisor

    def _next_number(self) -> int:
        taken = {supervisor.number for supervisor in self.supervisors.values()}
        if len(taken) >= MAX_SUPERVISORS:
            raise frames.ProtocolError("there are too many supervisors")
        while True:
            self._numbers = self._numbers % MAX_SUPERVISORS + 1
            if self._numbers not in taken:
                return self._numbers

    def left(self, supervisor: Supervisor) -> None:
        """Called when the supervisor is gone for good."""
        if self.supervisors.get(supervisor.id) is supervisor:
            del self.supervisors[supervisor.id]

    # Pools and hosts

    def open_pool(self, spec: Dict[str, Any]) -> Pool:
        """Returns the pool of this spec, which may be new. Raises `ValueError` if no host could serve it."""
        asked = PoolSpec.read(spec)
        pool = self.pools.get(asked.key)
        if pool is None:
            assert self.cluster is not None
            self._pool_numbers += 1
            pool = self.pools[asked.key] = Pool(self, self.cluster, self._pool_numbers, asked)
        return pool

    def new_host(self, pool: Pool) -> Host:
        """Makes a host with its own number and name, and a token that only this host receives."""
        self._host_numbers += 1
        name = f"{self.config.deployment}-e{self.config.epoch}-host-{self._host_numbers}"
        host = self.hosts[name] = Host(self, pool, self._host_numbers, name)
        return host

    def host_gone(self, host: Host) -> None:
        """Called when the host is fenced."""
        self.hosts.pop(host.name, None)

    def _read_hosts(self, wanted: bool) -> None:
        self._reading = wanted
        for host in self.hosts.values():
            if host.connection is not None:
                host.connection.read(wanted)

    # Time

    async def keep_time(self) -> None:
        """Runs the timed work until the gateway is done."""
        await asyncio.gather(self._keep(self._tick_peers), self._keep(self._tick_pools))

    async def _keep(self, tick: Callable[[float], Awaitable[None]]) -> None:
        while not self.done.is_set():
            try:
                await tick(time.monotonic())
            except Exception as error:
                log("error", "a tick failed", tick=tick.__name__, error=f"{type(error).__name__}: {error}")
            await _within(self.done.wait(), min(TICK_SECONDS, self.config.ping_seconds))

    def was_away(self) -> bool:
        """Whether this process did not run for so long that its peers had to presume it dead."""
        now = time.monotonic()
        if now - self._ticked > self.config.silent_seconds / 2:
            self._away_until = now + AWAY_SECONDS
        return now < self._away_until

    async def _tick_peers(self, now: float) -> None:
        self.was_away()
        self._ticked = now
        for connection in list(self.connections):
            connection.tick(now, self.config.ping_seconds, self.config.silent_seconds)
        for supervisor in list(self.supervisors.values()):
            supervisor.tick(now)
        self._end_when_idle(now)

    async def _tick_pools(self, now: float) -> None:
        # Separate from the other tick, because requests to Ray may take long while PINGs are due.
        for key, pool in list(self.pools.items()):
            await pool.fleet.tick(now)
            if not pool.members and now - pool.unused_since >= self.config.idle_seconds:
                pool.fleet.close()
                if not pool.fleet.hosts:
                    del self.pools[key]
        for pool in self.pools.values():
            pool.fleet.take_back(now)
        needy = [pool for pool in self.pools.values() if pool.fleet.needs_room(now, fleet.WAITING_SECONDS)]
        for pool in sorted(needy, key=lambda pool: -pool.fleet.claim(now)):
            self._make_room(pool, now)

    def _rivals(self, pool: Pool) -> List[Fleet]:
        kinds = pool.spec.placement.kinds()
        return [other.fleet for other in self.pools.values() if other is not pool and other.spec.placement.kinds() & kinds]

    def held(self, pool: Pool) -> int:
        """Returns how many hosts of other pools occupy resources that this pool waits for."""
        return sum(host.up for other in self._rivals(pool) for host in other.hosts)

    def leaves_for(self, pool: Pool) -> bool:
        """Whether a host of another pool will leave for this one when its last call has ended."""
        return any(host.yields_to is pool and host.retiring for host in self.hosts.values())

    def holds_back(self, pool: Pool) -> bool:
        """Whether resources that this pool would occupy are kept for another one with a higher claim."""
        now = time.monotonic()
        return any(other.reserves(now) and other.claim(now) > pool.fleet.claim(now) for other in self._rivals(pool))

    def _make_room(self, pool: Pool, now: float) -> None:
        # Idle hosts go first.
        needy, rivals = pool.fleet, self._rivals(pool)
        if any(other.give_up_idle(now) for other in rivals):
            return
        if needy.ready or not needy.needs_room(now, fleet.YIELD_SECONDS):
            return
        if self.leaves_for(pool) or needy.had_in_vain(now):
            return
        # Then a host of the pool with the most hosts goes. The only host of a pool goes if it has served for long
        # enough, lowest priority and oldest first.
        rich = [other for other in rivals if len(other.staying()) > 1]
        if rich:
            return max(rich, key=lambda other: len(other.staying())).yield_to(pool)
        claim = needy.claim(now)
        poor = [
            other
            for other in rivals
            if other.rank() < claim and any(now - host.up_since >= fleet.TURN_SECONDS for host in other.staying())
        ]
        if poor:
            min(poor, key=lambda other: (other.rank(), min(host.up_since for host in other.staying()))).yield_to(pool)

    def _end_when_idle(self, now: float) -> None:
        if self.supervisors:
            connected = any(supervisor.connection is not None for supervisor in self.supervisors.values())
            if connected:
                self._alone_since = now
        elif now - self._alone_since >= self.config.idle_seconds:
            log("info", "no supervisors are left, the gateway ends")
            self.done.set()

    # The end

    async def drain(self, seconds: float) -> None:
        """Gives running calls this many seconds to end. Then ends the rest, sends BYE to all peers and closes their
        connections.
        """
        if self.stopping:
            return
        self.stopping = True
        log("info", "the gateway drains", seconds=seconds)
        for pool in self.pools.values():
            pool.fleet.retire()
        until = time.monotonic() + seconds
        while time.monotonic() < until and any(host.calls for host in self.hosts.values()):
            await asyncio.sleep(0.05)
        why = Exit("terminated", "the gateway was stopped")
        for pool in list(self.pools.values()):
            pool.fleet.fence_all(why)
        for connection in list(self.connections):
            connection.send(frames.frame(frames.BYE))
            connection.close("the gateway was stopped")
        until = time.monotonic() + GOODBYE_SECONDS
        while time.monotonic() < until and self.connections:
            await asyncio.sleep(0.01)
        self.done.set()


async def _within(awaitable: Any, seconds: float) -> None:
    try:
        await asyncio.wait_for(awaitable, seconds)
    except asyncio.TimeoutError:
        pass


async def serve(config: Config, secret: str, listen: Listen, node: str) -> None:
    """Runs a gateway on the Ray cluster that this process is connected to, until it is done."""
    from .placement import RayCluster

    host = listen.bind or node
    require_private(host)
    gateway = Gateway(config, secret)
    server = await gateway.listen(host, listen.port)
    port = server.sockets[0].getsockname()[1]
    cluster = gateway.cluster = RayCluster((host, port), gateway.instance)
    loop = asyncio.get_running_loop()
    draining: List["asyncio.Task[None]"] = []
    loop.add_signal_handler(signal.SIGTERM, lambda: draining.append(loop.create_task(gateway.drain(config.drain_seconds))))
    advertised = listen.advertise or (host, port)
    # A forwarding that leads to the first port is expected to lead to the second in the same way.
    shift = port - listen.port if listen.advertise and listen.port else 0
    announce(gateway, advertised[0], advertised[1] + shift)
    try:
        await gateway.keep_time()
    finally:
        server.close()
        cluster.close()
        gateway.retained.close()


def announce(gateway: Gateway, host: str, port: int) -> None:
    """Prints the line in which workers find the gateway's address."""
    line = {"effect_ray_gateway": 1, "host": host, "port": port, "protocol": frames.PROTOCOL, "instance": gateway.instance}
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Reads the package, connects to Ray and serves. Returns the exit code."""
    try:
        if not os.environ.get("RAY_ADDRESS"):
            raise ValueError("RAY_ADDRESS is not set; a Ray Job sets it")
        config, listen = read_config("config.json"), read_listen()
        secret = auth.take_secret("secret")
    except (OSError, ValueError) as error:
        log("error", "the gateway cannot start", error=str(error))
        return 2

    import ray

    ray.init(
        address=os.environ["RAY_ADDRESS"],
        namespace=f"effect-ray:{config.deployment}",
        log_to_driver=False,
        logging_level="ERROR",
        include_dashboard=False,
    )
    # Imported objects stay until the end, so garbage collections need not examine them.
    gc.collect()
    gc.freeze()
    try:
        polling.run(serve(config, secret, listen, ray.util.get_node_ip_address()))
    except (OSError, ValueError) as error:
        log("error", "the gateway cannot start", error=str(error))
        return 2
    finally:
        ray.shutdown()
    return 0
