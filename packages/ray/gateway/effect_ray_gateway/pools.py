"""A pool: equal hosts, the calls that wait for them, and when there should be more or fewer."""

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Optional, Set, Tuple

from .calls import Call, FairLine
from .hosts import Host
from .log import log
from .placement import Cluster, Exit, Placed
from . import frames

if TYPE_CHECKING:
    from .gateway import Gateway
    from .supervisors import Supervisor

MAX_RETRY_SECONDS = 30
#: How often a host that no node can hold is looked at again.
MISFIT_RETRY_SECONDS = 2
#: An actor that is not placed after this is waiting for resources.
WAITING_SECONDS = 2
#: How long the host that a pool has asked for is wanted after its last call: calls come and go while they wait.
WANTED_SECONDS = 60
#: After this, a pool with several hosts gives one up for a pool that has none.
YIELD_SECONDS = 5
#: How long the room of hosts that were given up is kept for a pool that needs more: while another host is about to leave for
#: it, and when none is. Calls that run for longer, and what is not ours, may keep it from ever being enough.
RESERVED_SECONDS = 300
GIVEN_SECONDS = 15
#: How long a host serves before the only one of a pool may be given up for another pool.
TURN_SECONDS = 10
#: A pool that has waited so long for a host counts as one priority higher.
PRIORITY_SECONDS = 10
MAX_HOSTS = 10_000
MAX_LIMIT_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class State:
    """What supervisors are told about a pool."""

    state: str = "starting"
    detail: str = ""
    slots: int = 0


class Pool:
    """One pool, shared by the supervisors that opened an equal one."""

    def __init__(self, gateway: "Gateway", cluster: Cluster, number: int, spec: Dict[str, Any]) -> None:
        limits = spec.get("limits") or {}
        self.number = number
        self.spec = spec
        self.max_result_bytes = _integer("maxResultBytes", limits.get("maxResultBytes", 2 << 20), 1, MAX_LIMIT_BYTES)
        self.max_payload_bytes = _integer("maxPayloadBytes", limits.get("maxPayloadBytes", 2 << 20), 1, MAX_LIMIT_BYTES)
        self.grace_millis = _integer("graceMillis", limits.get("graceMillis", 5000), 0, 3_600_000)
        self.max_hosts = _integer("maxHosts", self.placement.get("maxHosts", 1), 1, MAX_HOSTS)
        self.members: Set["Supervisor"] = set()
        self.hosts: Set[Host] = set()
        self.line = FairLine()
        self.unused_since = time.monotonic()
        self._gateway = gateway
        self._cluster = cluster
        self._state = State()
        #: Hosts that can take a call, in the order in which they get the next ones.
        self._open: Deque[Host] = deque()
        self._alone: Deque[Call] = deque()
        self._starting: Optional[Host] = None
        self._failures = 0
        self._retry_at = 0.0
        #: How the last host that did not come up ended.
        self._failure = ""
        #: Since when the host that is being started waits for its place on a node.
        self._waiting_since: Optional[float] = None
        #: What it lacks, as Ray said last; none while Ray sets up its environment.
        self._shortage: Optional[str] = None
        #: Since when calls wait and there is no host.
        self._unserved_since: Optional[float] = None
        #: Since when it wants a first host, also while its calls are back at their supervisors.
        self._wants_since: Optional[float] = None
        #: When a host of another pool last left for the one that it wants.
        self._given_at: Optional[float] = None
        #: When the last call waited that no host could take, and the highest priority of such calls.
        self._wanted_at = 0.0
        self._wanted_priority = -1
        self._tasks: Set["asyncio.Task[None]"] = set()

    @property
    def placement(self) -> Dict[str, Any]:
        """What one host of this pool asks of Ray."""
        return self.spec["placement"]

    @property
    def waiting(self) -> int:
        """Calls that no host has yet."""
        return self.line.count + len(self._alone)

    # Supervisors

    def join(self, supervisor: "Supervisor") -> None:
        """A supervisor uses this pool: it hears of its hosts and of its state."""
        self.members.add(supervisor)
        for host in self.hosts:
            if host.up:
                supervisor.send(self._host_up(host))
        self._tell(supervisor)

    def leave(self, supervisor: "Supervisor") -> None:
        """A supervisor does not use it any more."""
        self.members.discard(supervisor)
        self.line.forget(supervisor)
        if not self.members:
            self.unused_since = time.monotonic()

    def submit(self, call: Call, alone: bool) -> None:
        """A call wants a host: the next open one, or its place in the line."""
        if alone:
            self._alone.append(call)
            self._place_alone()
        elif self._open and not self.line.count and not call.supervisor.blocked:
            return self._give(self._open[0], call)
        else:
            self.line.push(call)
        self._want(time.monotonic())
        self.grow()

    def forget(self, call: Call) -> None:
        """A waiting call ends where it stands."""
        call.supervisor.repay(1, len(call.run or b""))
        call.run = None
        if call in self._alone:
            self._alone.remove(call)
            self._take_back()
        else:
            self.line.dropped()

    # Dispatch

    def _give(self, host: Host, call: Call) -> None:
        host.give(call)
        if len(host.calls) >= host.slots:
            self.unlist(host)
        else:
            self._open.rotate(-1)

    def unlist(self, host: Host) -> None:
        """The host takes no calls for now."""
        if host.listed:
            host.listed = False
            self._open.remove(host)

    def dispatch(self) -> None:
        """Hands waiting calls to open hosts."""
        if self._alone:
            self._place_alone()
        while self._open and self.line.count:
            call = self.line.pop()
            if call is None:
                return
            self._give(self._open[0], call)

    def freed(self, host: Host) -> None:
        """A slot of the host is free, or its socket takes bytes again."""
        if not host.calls:
            host.idle_since = time.monotonic()
            host.emptying = host.alone = False
            if host.retiring and not host.fenced:
                return host.leave()
        if not host.listed and host.open:
            host.listed = True
            self._open.append(host)
        if self.line.count or self._alone:
            self.dispatch()

    def _place_alone(self) -> None:
        # An idle host takes the call at once. Otherwise the emptiest one is set aside until its last call has ended; one
        # for each call, and half of the hosts at the most, because others wait too.
        while self._alone:
            up = [host for host in self.hosts if host.up]
            candidates = [host for host in up if host.open]
            if not candidates:
                return
            host = min(candidates, key=lambda host: len(host.calls))
            emptying = sum(host.emptying for host in up)
            aside = emptying + sum(host.alone for host in up)
            if host.calls and (emptying >= len(self._alone) or aside >= max(1, len(up) // 2)):
                return
            self.unlist(host)
            host.emptying = len(host.calls) > 0
            if not host.emptying:
                host.alone = True
                host.give(self._alone.popleft())
                self._take_back()

    def _take_back(self) -> None:
        # The last call of a host may go on for hours, and the one that it was set aside for has another host or is gone.
        emptying = [host for host in self.hosts if host.emptying]
        for host in emptying[len(self._alone) :]:
            host.emptying = False
            self.freed(host)

    # Hosts

    def _want(self, now: float) -> None:
        # What it asks for outlives the calls: they go back to their supervisors while they wait.
        if now - self._wanted_at >= WANTED_SECONDS:
            self._wanted_priority = -1
            self._wants_since = None
        self._wanted_at = now
        if self.ready:
            self._wants_since = None
        elif self._wants_since is None:
            self._wants_since = now
        waiting = max([self.line.priority(), *(call.priority for call in self._alone)])
        self._wanted_priority = max(self._wanted_priority, waiting)

    def grow(self) -> None:
        """Starts one more host when calls wait, unless one is being started or there are enough."""
        if self._starting is not None or not self.waiting or len(self.hosts) >= self.max_hosts:
            return
        if time.monotonic() < self._retry_at or self._gateway.stopping or self._gateway.holds_back(self):
            return
        host = self._gateway.new_host(self)
        self._starting = host
        self.hosts.add(host)
        self._waiting_since = time.monotonic()
        self._shortage = None
        task = asyncio.get_running_loop().create_task(self._start(host))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, host: Host) -> None:
        try:
            misfit = await self._cluster.misfit(self.placement)
            if misfit is not None:
                return self._unschedulable(host, misfit)
            self._show("ready" if self._slots() else "starting")
            host.placed = Placed()
            if host.fenced:
                host.placed.kill()
            orders = {"token": host.token, "hostId": host.name}
            exit = await self._cluster.run(host.placed, host.name, self.spec, orders, lambda: self._placed(host))
        except Exception as error:
            exit = Exit("actor", f"{type(error).__name__}: {error}")
        host.exited(exit)

    def _placed(self, host: Host) -> None:
        host.placed_at = time.monotonic()
        self._waiting_since = self._shortage = self._wants_since = self._given_at = None

    def _unschedulable(self, host: Host, misfit: str) -> None:
        # A node may be on its way: it is looked for again when calls come again.
        self._retry_at = time.monotonic() + MISFIT_RETRY_SECONDS
        host.retiring = True
        host.fence(Exit("unschedulable", misfit))

    def came_up(self, host: Host) -> None:
        """The host has said HELLO."""
        if self._starting is host:
            self._starting = None
        self._unserved_since = None
        for member in self.members:
            member.send(self._host_up(host))
        self._show("ready")
        self.freed(host)
        self.grow()

    def proved(self) -> None:
        """One of its hosts has come up for good."""
        self._failures = 0

    def went_down(self, host: Host, why: Exit) -> None:
        """The host is fenced and its calls have ended."""
        self.hosts.discard(host)
        self.unlist(host)
        if host.slots > 0:
            down = frames.json_frame(frames.HOST_DOWN, {"number": host.number, "detail": why.detail})
            for member in self.members:
                member.send(down)
        failed = not host.proven and not host.collateral and why.kind not in ("terminated", "unschedulable")
        if self._starting is host:
            self._starting = None
            self._waiting_since = self._shortage = None
        if failed:
            self._failures += 1
            self._failure = why.detail
            self._retry_at = time.monotonic() + min(MAX_RETRY_SECONDS, 2 ** (self._failures - 1))
            self._wants_since = None
        if host.yields_to is not None:
            # Its place is for the other pool, which may take a moment to get it, and may need more.
            host.yields_to._given_at = time.monotonic()
            self._retry_at = max(self._retry_at, time.monotonic() + YIELD_SECONDS)
        if not self._slots() and (failed or why.kind == "unschedulable"):
            # Their supervisors hold the others back, and try again.
            self._give_back("failed" if failed else "unschedulable", why.detail)
        state = "ready" if self._slots() else "failed" if failed else "starting"
        if why.kind == "unschedulable" and not self._slots():
            state = "unschedulable"
        self._show(state, why.detail if state in ("failed", "unschedulable") else "")
        self.dispatch()
        self.grow()

    def close(self) -> None:
        """Gives up all hosts."""
        for host in list(self.hosts):
            host.leave()

    def retire(self) -> None:
        """No host gets a call any more; each leaves when its last one has ended."""
        for host in list(self.hosts):
            self._retire(host)

    def _retire(self, host: Host) -> None:
        host.retiring = True
        self.unlist(host)
        self.freed(host)

    def fence_all(self, why: Exit) -> None:
        """Ends everything: the calls that wait and the calls that run are lost, and nobody is to blame."""
        self._give_back("unreachable", why.detail)
        for host in list(self.hosts):
            host.fence(why, collateral=True)

    def _give_back(self, why: str, detail: str) -> None:
        self._unserved_since = None
        for call in [*self.line.drain(), *self._alone]:
            call.supervisor.repay(1, len(call.run or b""))
            call.supervisor.ended(call, call.unplaced(why, detail))
        self._alone.clear()

    # What is told, and what is due

    async def tick(self, now: float) -> None:
        """Tries again what failed, says what a host waits for, and gives back what has waited for the first one."""
        for host in list(self.hosts):
            host.tick(now)
        if self.waiting:
            self._want(now)
        self.grow()
        if self.ready or not self.waiting:
            self._unserved_since = None
        elif self._unserved_since is None:
            self._unserved_since = now
        if self._waiting_since is not None and not self._is_wanted(now):
            return self._withdraw("no call waits for it any more")
        if self._waiting_since is not None:
            shortage = await self._cluster.shortage(self.placement)
            # Only if it has not been placed meanwhile.
            self._shortage = None if self._waiting_since is None else shortage
        held_back = self._gateway.holds_back(self)
        if held_back and self._shortage is not None:
            # Ray would give it the room that is kept for the other.
            self._withdraw("its room is for another pool")
        if (held_back or self._waits(now, WAITING_SECONDS)) and self.waiting and not self.ready:
            self._show("starting", self._obstacle()[1])
        since = self._unserved_since
        if since is not None and now - since >= self._gateway.config.wait_seconds and not self.ready:
            self._give_back(*self._obstacle())

    def _withdraw(self, why: str) -> None:
        """Asks Ray no more for the host that has no place yet."""
        assert self._starting is not None
        self._starting.retiring = True
        self._starting.fence(Exit("terminated", why))

    def _obstacle(self) -> Tuple[str, str]:
        """What keeps the pool from its first host, as the `why` of LOST frames and in words."""
        if self._shortage is not None:
            held = self._gateway.held(self)
            return "waiting", f"{self._shortage}{f' (hosts of other pools that have some: {held})' if held else ''}"
        if self._starting is None and self._gateway.holds_back(self):
            return "waiting", "room is made for a pool that has waited longer, or whose calls have a higher priority"
        # A host may take longer to fail than any call waits for it, so it is the last one's failure that calls hear.
        if self._failures:
            return "failed", self._failure
        if self._starting is None:
            return "starting", "a host is about to be asked for"
        if self._waiting_since is None:
            return "starting", "its process is coming up"
        packages = ", ".join(self.placement.get("pip") or [])
        return "starting", f"Ray sets up its environment{f' with {packages}' if packages else ''}"

    def _is_wanted(self, now: float) -> bool:
        return len(self.members) > 0 and (self.waiting > 0 or now - self._wanted_at < WANTED_SECONDS)

    # Room for others

    def needs_room(self, now: float, seconds: float) -> bool:
        """Whether it wants a host for which Ray has had no room for so long."""
        return self._shortage is not None and self._waits(now, seconds)

    def _waits(self, now: float, seconds: float) -> bool:
        return self._waiting_since is not None and now - self._waiting_since >= seconds and self._is_wanted(now)

    def wants(self) -> Set[str]:
        """The kinds of resources that its hosts occupy."""
        placement = self.placement
        named = {name for name in ("cpus", "gpus", "memory") if placement.get(name)}
        return named | set(placement.get("resources") or {})

    def claim(self, now: float) -> float:
        """How urgent its wish for a host is: the priority of its calls, and more the longer it has waited."""
        return self._wanted_priority + (now - (self._wants_since or now)) / PRIORITY_SECONDS

    def reserves(self, now: float) -> bool:
        """Whether the room that others have given up is kept for it: it is not enough yet, and more is to be had."""
        if self._given_at is None or self.ready or not self.needs_room(now, 0):
            return False
        return now - self._given_at < (RESERVED_SECONDS if self._gateway.leaves_for(self) else GIVEN_SECONDS)

    def had_in_vain(self, now: float) -> bool:
        """Whether others gave up what did not help it, not long ago."""
        return self._given_at is not None and not self.reserves(now) and now - self._given_at < RESERVED_SECONDS

    def rank(self) -> int:
        """The highest priority of the calls that it has."""
        running = (call.priority for host in self.hosts for call in host.calls.values())
        return max([self.line.priority(), *running])

    def staying(self) -> List[Host]:
        """Its hosts that are not about to leave."""
        return [host for host in self.hosts if host.up and not host.retiring]

    def give_up_idle(self, now: float) -> bool:
        """Gives up a host that has nothing to do; whether there was one."""
        if self.waiting:
            return False
        for host in self.staying():
            if not host.calls and now - host.idle_since >= WAITING_SECONDS:
                self._retire(host)
                return True
        return False

    def yield_to(self, other: "Pool") -> None:
        """Gives up the host with the fewest calls, once they have ended, unless the other gets one elsewhere before."""
        host = min(self.staying(), key=lambda host: len(host.calls))
        host.yields_to = other
        self._retire(host)

    def take_back(self, now: float) -> None:
        """Goes on with hosts that were to be given up for a pool that needs none any more."""
        for host in list(self.hosts):
            other = host.yields_to
            if other is not None and not host.fenced and (other.ready or not other.needs_room(now, 0)):
                host.yields_to = None
                host.retiring = False
                self.freed(host)

    @property
    def ready(self) -> bool:
        """Whether it has a host."""
        return self._slots() > 0

    def _slots(self) -> int:
        return sum(host.slots for host in self.hosts if host.up)

    def _host_up(self, host: Host) -> bytes:
        value = {"number": host.number, "pool": self.number, "host": host.name, "node": host.node, "pid": host.pid}
        return frames.json_frame(frames.HOST_UP, value)

    def _show(self, state: str, detail: str = "") -> None:
        new = State(state, detail, self._slots())
        if new == self._state:
            return
        if new.state == "failed" or new.state == "unschedulable":
            log("warning", f"a pool is {new.state}", pool=self.number, detail=detail)
        self._state = new
        for member in self.members:
            self._tell(member)

    def _tell(self, member: "Supervisor") -> None:
        state = self._state
        member.send(
            frames.json_frame(
                frames.POOL_STATE,
                {
                    "ref": member.refs[self.number],
                    "pool": self.number,
                    "state": state.state,
                    "detail": state.detail,
                    "slots": state.slots,
                },
            )
        )


def key_of(spec: Dict[str, Any]) -> str:
    """Two pools are the same when these are equal. Raises `ValueError` for a spec that no host could serve."""
    placement = spec.get("placement")
    if spec.get("runtime") not in ("node", "python"):
        raise ValueError(f"runtime is {spec.get('runtime')!r}, not node or python")
    # Without a package a host would be given the job's own, in which the gateway's secret lies.
    if not isinstance(spec.get("package"), str) or not isinstance(placement, dict):
        raise ValueError("a pool needs a package and a placement")
    if not all(isinstance(spec.get(name) or {}, dict) for name in ("env", "limits")):
        raise ValueError("env and limits are objects")
    for name in ("cpus", "gpus", "memory"):
        amount = placement.get(name)
        if amount is not None and (isinstance(amount, bool) or not isinstance(amount, (int, float)) or amount < 0):
            raise ValueError(f"placement.{name} is {amount!r}, not an amount")
    if not isinstance(placement.get("resources") or {}, dict) or not isinstance(placement.get("pip") or [], list):
        raise ValueError("placement.resources is an object, placement.pip a list")
    return json.dumps(spec, sort_keys=True)


def _integer(name: str, value: Any, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"{name} is {value!r}, not an integer from {least} to {most}")
    return value
