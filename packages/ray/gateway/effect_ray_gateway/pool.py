"""A pool: hosts of one kind, the calls that wait for them, and the supervisors that receive reports about it."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Set

from . import frames
from .calls import Call
from .dispatch import Dispatch
from .fleet import Fleet
from .hosts import Host
from .log import log
from .placement import Cluster
from .pool_spec import PoolSpec

if TYPE_CHECKING:
    from .gateway import Gateway
    from .supervisors import Supervisor


@dataclass(frozen=True)
class State:
    """The state of a pool as reported to supervisors."""

    state: str = "starting"
    detail: str = ""
    slots: int = 0


class Pool:
    """A pool, which is shared by the supervisors that opened an equal one."""

    def __init__(self, gateway: "Gateway", cluster: Cluster, number: int, spec: PoolSpec) -> None:
        self.number = number
        self.spec = spec
        self.members: Set["Supervisor"] = set()
        self.unused_since = time.monotonic()
        self.dispatch = Dispatch()
        self.fleet = Fleet(gateway, cluster, self)
        self._state = State()

    # Supervisors

    def join(self, supervisor: "Supervisor") -> None:
        """Called when a supervisor uses this pool. It receives reports about the hosts and the state."""
        self.members.add(supervisor)
        for host in self.fleet.hosts:
            if host.up:
                supervisor.send(self._host_up(host))
        self._tell(supervisor)

    def leave(self, supervisor: "Supervisor") -> None:
        """Called when a supervisor no longer uses this pool."""
        self.members.discard(supervisor)
        self.dispatch.leave(supervisor)
        if not self.members:
            self.unused_since = time.monotonic()

    def submit(self, call: Call) -> None:
        """Gives the call to a host, or lets it wait for one."""
        if not self.dispatch.submit(call):
            self.fleet.want(time.monotonic())
            self.fleet.grow()

    def give_back(self, why: str, detail: str) -> None:
        """Ends all waiting calls, which no host has had."""
        for call in self.dispatch.drain():
            call.end(call.unplaced(why, detail))

    # Reports to supervisors

    def tell_up(self, host: Host) -> None:
        """Reports that a host has come up."""
        for member in self.members:
            member.send(self._host_up(host))

    def tell_down(self, host: Host, detail: str) -> None:
        """Reports that a host that was up is gone."""
        down = frames.json_frame(frames.HOST_DOWN, {"number": host.number, "detail": detail})
        for member in self.members:
            member.send(down)

    def show(self, state: str, detail: str = "") -> None:
        """Reports a state, unless it is the same as the last one."""
        new = State(state, detail, self.fleet.slots)
        if new == self._state:
            return
        if new.state == "failed" or new.state == "unschedulable":
            log("warning", f"a pool is {new.state}", pool=self.number, detail=detail)
        self._state = new
        for member in self.members:
            self._tell(member)

    def _host_up(self, host: Host) -> bytes:
        value = {"number": host.number, "pool": self.number, "host": host.name, "node": host.node, "pid": host.pid}
        return frames.json_frame(frames.HOST_UP, value)

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
