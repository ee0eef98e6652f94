"""The hosts of a pool. Decides when one starts, rests or retires.

It decides based on the calls that wait in the pool's `Dispatch`, on what the cluster reports about the requested host,
and on what other pools need. It changes a host only through the host's own methods.
"""

import asyncio
import time
from typing import TYPE_CHECKING, List, Optional, Set, Tuple

from .hosts import Host
from .placement import Cluster, Exit

if TYPE_CHECKING:
    from .gateway import Gateway
    from .pool import Pool

#: The longest delay after hosts that did not start.
MAX_RETRY_SECONDS = 30
#: How soon the cluster is checked again for a node that can hold a host.
MISFIT_RETRY_SECONDS = 2
#: How long the placement of an actor may take. After that it is waiting for resources.
WAITING_SECONDS = 2
#: How long a requested host is still needed after the pool's last call: calls go back to their supervisors and return
#: while it starts.
WANTED_SECONDS = 60
#: After this time, a pool with several hosts gives one up for a pool that has none.
YIELD_SECONDS = 5
#: How long the room of hosts that were given up is kept for a pool that needs more room: while another host is about to
#: leave for that pool, and when none is. There may never be enough room, because of calls that run for longer or work
#: that is not ours.
RESERVED_SECONDS = 300
GIVEN_SECONDS = 15
#: How long a pool's only host serves before it may be given up for another pool.
TURN_SECONDS = 10
#: How long a pool has to wait for a host to count as one priority higher.
PRIORITY_SECONDS = 10


class Fleet:
    """The hosts of one pool."""

    def __init__(self, gateway: "Gateway", cluster: Cluster, pool: "Pool") -> None:
        self.hosts: Set[Host] = set()
        #: How many hosts in a row have not come up.
        self.failures = 0
        self._gateway = gateway
        self._cluster = cluster
        self._pool = pool
        self._spec = pool.spec
        self._dispatch = pool.dispatch
        self._starting: Optional[Host] = None
        self._retry_at = 0.0
        #: How the last host that did not come up ended.
        self._failure = ""
        #: Since when the starting host has waited for its place on a node.
        self._waiting_since: Optional[float] = None
        #: What it lacks, as Ray last reported; none while Ray sets up its environment.
        self._shortage: Optional[str] = None
        #: Since when calls have waited without a host.
        self._unserved_since: Optional[float] = None
        #: Since when a first host has been needed, including the time in which the calls are back at their supervisors.
        self._wants_since: Optional[float] = None
        #: When a host of another pool last left to make room for the needed one.
        self._given_at: Optional[float] = None
        #: When a call last waited that no host could take, and the highest priority of such calls.
        self._wanted_at = 0.0
        self._wanted_priority = -1
        self._tasks: Set["asyncio.Task[None]"] = set()

    @property
    def slots(self) -> int:
        """How many calls its hosts can run at once."""
        return sum(host.slots for host in self.hosts if host.up)

    @property
    def ready(self) -> bool:
        """Whether it has a host."""
        return self.slots > 0

    # More hosts

    def want(self, now: float) -> None:
        """Called when calls wait."""
        # The need for a host remains when the calls go back to their supervisors to wait there.
        if now - self._wanted_at >= WANTED_SECONDS:
            self._wanted_priority = -1
            self._wants_since = None
        self._wanted_at = now
        if self.ready:
            self._wants_since = None
        elif self._wants_since is None:
            self._wants_since = now
        self._wanted_priority = max(self._wanted_priority, self._dispatch.priority())

    def grow(self) -> None:
        """Starts one more host if calls wait, unless one is already starting or there are enough."""
        if self._starting is not None or not self._dispatch.waiting or len(self.hosts) >= self._spec.placement.max_hosts:
            return
        if time.monotonic() < self._retry_at or self._gateway.stopping or self._gateway.holds_back(self._pool):
            return
        host = self._gateway.new_host(self._pool)
        self._starting = host
        self.hosts.add(host)
        self._waiting_since = time.monotonic()
        self._shortage = None
        task = asyncio.get_running_loop().create_task(self._start(host))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, host: Host) -> None:
        try:
            misfit = await self._cluster.misfit(self._spec.placement)
            if misfit is not None:
                return self._unschedulable(host, misfit)
            self._pool.show("ready" if self.ready else "starting")
            orders = {"token": host.token, "hostId": host.name}
            exit = await self._cluster.run(host.place(), host.name, self._spec, orders, lambda: self._was_placed(host))
        except Exception as error:
            exit = Exit("actor", f"{type(error).__name__}: {error}")
        host.exited(exit)

    def _was_placed(self, host: Host) -> None:
        host.was_placed()
        self._waiting_since = self._shortage = self._wants_since = self._given_at = None

    def _unschedulable(self, host: Host, misfit: str) -> None:
        # A node may be on its way. The cluster is checked again when there are calls again.
        self._retry_at = time.monotonic() + MISFIT_RETRY_SECONDS
        host.fence(Exit("unschedulable", misfit), expected=True)

    def came_up(self, host: Host) -> None:
        """Called when the host has sent HELLO."""
        if self._starting is host:
            self._starting = None
        self._unserved_since = None
        self._pool.tell_up(host)
        self._pool.show("ready")
        self._dispatch.add(host)
        self.grow()

    def proved(self) -> None:
        """Called when one of its hosts is known to have started successfully."""
        self.failures = 0

    def went_down(self, host: Host, why: Exit) -> None:
        """Called when the host is fenced and its calls have ended."""
        self.hosts.discard(host)
        if host.slots > 0:
            self._pool.tell_down(host, why.detail)
        failed = not host.proven and not host.collateral and why.kind not in ("terminated", "unschedulable")
        if self._starting is host:
            self._starting = None
            self._waiting_since = self._shortage = None
        if failed:
            self.failures += 1
            self._failure = why.detail
            self._retry_at = time.monotonic() + min(MAX_RETRY_SECONDS, 2 ** (self.failures - 1))
            self._wants_since = None
        if host.yields_to is not None:
            # Its room is for the other pool, which may take a moment to get it, and may need more.
            host.yields_to.fleet.was_given()
            self._retry_at = max(self._retry_at, time.monotonic() + YIELD_SECONDS)
        state = "ready" if self.ready else "failed" if failed else "starting"
        if not self.ready and why.kind == "unschedulable":
            state = "unschedulable"
        hopeless = state in ("failed", "unschedulable")
        if hopeless:
            # Their supervisors hold back the other calls, and try again.
            self._give_back(state, why.detail)
        self._pool.show(state, why.detail if hopeless else "")
        self._dispatch.go_on()
        self.grow()

    def _give_back(self, why: str, detail: str) -> None:
        self._unserved_since = None
        self._pool.give_back(why, detail)

    # What is due

    async def tick(self, now: float) -> None:
        """Retries failed starts, reports what a host waits for, and gives back calls that have waited long enough for
        the first host.
        """
        for host in list(self.hosts):
            host.tick(now)
        if self._dispatch.waiting:
            self.want(now)
        self.grow()
        if self.ready or not self._dispatch.waiting:
            self._unserved_since = None
        elif self._unserved_since is None:
            self._unserved_since = now
        if self._waiting_since is not None and not self._is_wanted(now):
            return self._withdraw("no call needs it any more")
        if self._waiting_since is not None:
            shortage = await self._cluster.shortage(self._spec.placement)
            # Only if it has not been placed in the meantime.
            self._shortage = None if self._waiting_since is None else shortage
        held_back = self._gateway.holds_back(self._pool)
        if held_back and self._shortage is not None:
            # Otherwise Ray would give it the room that is kept for the other pool.
            self._withdraw("its room is for another pool")
        if (held_back or self._waits(now, WAITING_SECONDS)) and self._dispatch.waiting and not self.ready:
            self._pool.show("starting", self._obstacle()[1])
        since = self._unserved_since
        if since is not None and now - since >= self._gateway.config.wait_seconds and not self.ready:
            self._give_back(*self._obstacle())

    def _withdraw(self, why: str) -> None:
        """Withdraws the request for the host that has no place yet."""
        assert self._starting is not None
        self._starting.fence(Exit("terminated", why), expected=True)

    def _obstacle(self) -> Tuple[str, str]:
        """Returns the obstacle to the pool's first host: the `why` of LOST frames, and a description."""
        if self._shortage is not None:
            held = self._gateway.held(self._pool)
            return "waiting", f"{self._shortage}{f' (hosts of other pools that have some: {held})' if held else ''}"
        if self._starting is None and self._gateway.holds_back(self._pool):
            return "waiting", "room is made for a pool that has waited longer, or whose calls have a higher priority"
        # A host may take longer to fail than any call waits, so calls get the failure of the previous host.
        if self.failures:
            return "failed", self._failure
        if self._starting is None:
            return "starting", "a host is about to be requested"
        if self._waiting_since is None:
            return "starting", "its process is starting"
        packages = ", ".join(self._spec.placement.pip)
        return "starting", f"Ray sets up its environment{f' with {packages}' if packages else ''}"

    def _is_wanted(self, now: float) -> bool:
        return len(self._pool.members) > 0 and (self._dispatch.waiting > 0 or now - self._wanted_at < WANTED_SECONDS)

    # Fewer hosts

    def close(self) -> None:
        """Ends all hosts at once."""
        for host in list(self.hosts):
            host.leave()

    def retire(self) -> None:
        """Gives the hosts no more calls. Each leaves when its last call has ended."""
        for host in list(self.hosts):
            host.retire()

    def fence_all(self, why: Exit) -> None:
        """Ends everything. Waiting calls go back, and running calls are lost as collateral."""
        self._give_back("unreachable", why.detail)
        for host in list(self.hosts):
            host.fence(why, collateral=True)

    # Room for others

    def needs_room(self, now: float, seconds: float) -> bool:
        """Whether it needs a host for which Ray has had no room for this many seconds."""
        return self._shortage is not None and self._waits(now, seconds)

    def _waits(self, now: float, seconds: float) -> bool:
        return self._waiting_since is not None and now - self._waiting_since >= seconds and self._is_wanted(now)

    def claim(self, now: float) -> float:
        """Returns how urgently it needs a host: the priority of its calls, which rises the longer it has waited."""
        return self._wanted_priority + (now - (self._wants_since or now)) / PRIORITY_SECONDS

    def was_given(self) -> None:
        """Called when a host of another pool has left to make room."""
        self._given_at = time.monotonic()

    def reserves(self, now: float) -> bool:
        """Whether the room that other pools have given up is kept for it: there is not enough yet, but more may follow."""
        if self._given_at is None or self.ready or not self.needs_room(now, 0):
            return False
        return now - self._given_at < (RESERVED_SECONDS if self._gateway.leaves_for(self._pool) else GIVEN_SECONDS)

    def had_in_vain(self, now: float) -> bool:
        """Whether other pools gave up hosts not long ago without giving it enough room."""
        return self._given_at is not None and not self.reserves(now) and now - self._given_at < RESERVED_SECONDS

    def rank(self) -> int:
        """Returns the highest priority of the pool's calls."""
        running = (call.priority for host in self.hosts for call in host.calls.values())
        return max([self._dispatch.priority(), *running])

    def staying(self) -> List[Host]:
        """Returns its hosts that are not about to leave."""
        return [host for host in self.hosts if host.up and not host.retiring]

    def give_up_idle(self, now: float) -> bool:
        """Gives up an idle host. Returns whether there was one."""
        if self._dispatch.waiting:
            return False
        for host in self.staying():
            if not host.calls and now - host.idle_since >= WAITING_SECONDS:
                host.retire()
                return True
        return False

    def yield_to(self, other: "Pool") -> None:
        """Gives up the host with the fewest calls when they have ended, unless the other pool gets a host elsewhere first."""
        min(self.staying(), key=lambda host: len(host.calls)).retire(yields_to=other)

    def take_back(self, now: float) -> None:
        """Keeps hosts that were to be given up for a pool that no longer needs them."""
        for host in list(self.hosts):
            other = host.yields_to
            if other is not None and host.retiring and (other.fleet.ready or not other.fleet.needs_room(now, 0)):
                host.resume()
