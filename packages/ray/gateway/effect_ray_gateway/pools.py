"""A pool: equal hosts, the calls that wait for them, and when there should be more or fewer."""

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Deque, Dict, Optional, Set

from .calls import Call, FairLine
from .hosts import Host
from .log import log
from .placement import Cluster, Exit, Placed
from . import frames

if TYPE_CHECKING:
    from .gateway import Gateway
    from .supervisors import Supervisor

MAX_RETRY_SECONDS = 30
#: While no host starts, the calls that wait are given back each time after so many failures in a row.
MAX_FAILED_STARTS = 3
#: How often a host that no node can hold is looked at again.
MISFIT_RETRY_SECONDS = 2
#: An actor that is not placed after this is waiting for resources.
WAITING_SECONDS = 2
#: After this, a pool with several hosts gives one up for a pool that has none.
YIELD_SECONDS = 5
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
        #: Since when no node can hold such a host.
        self._misfit_since: Optional[float] = None
        self._waiting_since: Optional[float] = None
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
            self.grow()
        elif self._open and not self.line.count and not call.supervisor.blocked:
            self._give(self._open[0], call)
        else:
            self.line.push(call)
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

    def grow(self) -> None:
        """Starts one more host when calls wait, unless one is being started or there are enough."""
        if self._starting is not None or not self.waiting or len(self.hosts) >= self.max_hosts:
            return
        if time.monotonic() < self._retry_at or self._gateway.stopping:
            return
        host = self._gateway.new_host(self)
        self._starting = host
        self.hosts.add(host)
        self._waiting_since = time.monotonic()
        task = asyncio.get_running_loop().create_task(self._start(host))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _start(self, host: Host) -> None:
        try:
            misfit = await self._cluster.misfit(self.placement)
            if misfit is not None:
                return self._unschedulable(host, misfit)
            self._misfit_since = None
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
        self._waiting_since = None

    def _unschedulable(self, host: Host, misfit: str) -> None:
        # A node may be on its way: one that starts again, or one of a cluster that is just coming up.
        now, why = time.monotonic(), Exit("unschedulable", misfit)
        self._misfit_since = self._misfit_since or now
        self._retry_at = now + min(MISFIT_RETRY_SECONDS, self._gateway.config.unschedulable_seconds)
        if now - self._misfit_since >= self._gateway.config.unschedulable_seconds:
            self._lose_waiting(why, False)
        host.retiring = True
        host.fence(why)

    def came_up(self, host: Host) -> None:
        """The host has said HELLO."""
        if self._starting is host:
            self._starting = None
        self._failures = 0
        for member in self.members:
            member.send(self._host_up(host))
        self._show("ready")
        self.freed(host)
        self.grow()

    def went_down(self, host: Host, why: Exit) -> None:
        """The host is fenced and its calls have ended."""
        self.hosts.discard(host)
        self.unlist(host)
        if host.slots > 0:
            down = frames.json_frame(frames.HOST_DOWN, {"number": host.number, "detail": why.detail})
            for member in self.members:
                member.send(down)
        failed = self._starting is host and why.kind not in ("terminated", "unschedulable")
        if self._starting is host:
            self._starting = None
            self._waiting_since = None
        if failed:
            self._failures += 1
            self._retry_at = time.monotonic() + min(MAX_RETRY_SECONDS, 2 ** (self._failures - 1))
            if self._failures >= MAX_FAILED_STARTS and not self._slots():
                # Other workers may have a bundle that starts.
                self._lose_waiting(Exit("unplaced", f"no host starts: {why.detail}"), True)
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
        self._lose_waiting(Exit("unplaced", why.detail), True)
        for host in list(self.hosts):
            host.fence(why, collateral=True)

    def _lose_waiting(self, why: Exit, collateral: bool) -> None:
        for call in [*self.line.drain(), *self._alone]:
            call.supervisor.repay(1, len(call.run or b""))
            call.supervisor.ended(call, call.lost(why.kind, why.detail, collateral))
        self._alone.clear()

    # What is told, and what is due

    async def tick(self, now: float) -> None:
        """Tries again what failed, and says what a host waits for."""
        for host in list(self.hosts):
            host.tick(now)
        self.grow()
        if self.needs_room(now, WAITING_SECONDS):
            detail = await self._cluster.shortage(self.placement)
            if self._waiting_since is not None and not self._slots():
                self._show("starting", detail)

    def needs_room(self, now: float, seconds: float) -> bool:
        """Whether calls wait for a host that Ray has not been able to place for so long."""
        return self._waiting_since is not None and now - self._waiting_since >= seconds and self.waiting > 0

    def wants(self) -> Set[str]:
        """The kinds of resources that its hosts occupy."""
        placement = self.placement
        named = {name for name in ("cpus", "gpus", "memory") if placement.get(name)}
        return named | set(placement.get("resources") or {})

    def make_room(self, now: float, urgent: bool) -> bool:
        """Gives up an idle host or, when it is urgent, one of several; whether one is on its way out."""
        live = [host for host in self.hosts if host.up]
        if urgent:
            if any(host.retiring for host in live):
                return True
            chosen = live if len(live) > 1 else []
        else:
            chosen = [host for host in live if not host.calls and now - host.idle_since >= WAITING_SECONDS and not self.waiting]
        if not chosen:
            return False
        self._retire(min(chosen, key=lambda host: len(host.calls)))
        return True

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
