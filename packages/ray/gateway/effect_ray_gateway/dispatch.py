"""Decides which waiting call of a pool goes to which host."""

from collections import deque
from typing import TYPE_CHECKING, Deque, List, Set

from .calls import Call
from .fair_line import FairLine

if TYPE_CHECKING:
    from .hosts import Host
    from .supervisors import Supervisor


class Dispatch:
    """The waiting calls and the hosts of one pool."""

    def __init__(self) -> None:
        self._line = FairLine()
        #: Calls that must have a host to themselves.
        self._alone: Deque[Call] = deque()
        #: Hosts that are up.
        self._hosts: Set["Host"] = set()
        #: Hosts that can take a call, in the order in which they get the next ones; and the same as a set, for lookups.
        self._open: "Deque[Host]" = deque()
        self._listed: Set["Host"] = set()

    @property
    def waiting(self) -> int:
        """How many calls no host has yet."""
        return self._line.count + len(self._alone)

    def priority(self) -> int:
        """Returns the highest priority of the waiting calls; -1 if there are none."""
        return max([self._line.priority(), *(call.priority for call in self._alone)])

    # Calls

    def submit(self, call: Call) -> bool:
        """Gives the call to the next open host, or lets it wait. Returns whether a host has it."""
        if call.alone:
            self._alone.append(call)
            self._place_alone()
        elif self._open and not self._line.count and not call.supervisor.blocked:
            self._give(self._open[0], call)
        else:
            self._line.push(call)
            if self._open:
                # All waiting calls belong to supervisors that do not read.
                self.go_on()
        return call.host is not None

    def forget(self, call: Call) -> None:
        """Called when a waiting call has ended."""
        if call.alone:
            self._alone.remove(call)
            self._take_back()
        else:
            self._line.dropped()

    def leave(self, supervisor: "Supervisor") -> None:
        """Called when the supervisor is gone and has no waiting calls any more."""
        self._line.forget(supervisor)

    def drain(self) -> List[Call]:
        """Removes and returns all waiting calls."""
        calls = [*self._line.drain(), *self._alone]
        self._alone.clear()
        return calls

    # Hosts

    def add(self, host: "Host") -> None:
        """Called when the host has come up."""
        self._hosts.add(host)
        self.freed(host)

    def remove(self, host: "Host") -> None:
        """Called when the host takes no more calls."""
        self._hosts.discard(host)
        self.close(host)

    def close(self, host: "Host") -> None:
        """Called when the host takes no calls for now."""
        if host in self._listed:
            self._listed.remove(host)
            self._open.remove(host)

    def freed(self, host: "Host") -> None:
        """Called when the host may be able to take a call again."""
        if host not in self._listed and host.open:
            self._listed.add(host)
            self._open.append(host)
        if self._line.count or self._alone:
            self.go_on()

    def go_on(self) -> None:
        """Gives waiting calls to open hosts."""
        if self._alone:
            self._place_alone()
        while self._open and self._line.count:
            call = self._line.pop()
            if call is None:
                return
            self._give(self._open[0], call)

    def _give(self, host: "Host", call: Call) -> None:
        call.given(host)
        if len(host.calls) < host.slots:
            self._open.rotate(-1)
        else:
            self.close(host)

    def _place_alone(self) -> None:
        # An idle host takes the call at once. Otherwise the host with the fewest calls is set aside until its last call
        # has ended. One host is set aside for each such call, but at most half of the hosts, because other calls wait
        # too.
        while self._alone:
            candidates = [host for host in self._hosts if host.open]
            if not candidates:
                return
            host = min(candidates, key=lambda host: len(host.calls))
            emptying = sum(host.emptying for host in self._hosts)
            aside = emptying + sum(host.alone for host in self._hosts)
            if host.calls and (emptying >= len(self._alone) or aside >= max(1, len(self._hosts) // 2)):
                return
            self.close(host)
            if host.calls:
                host.set_aside()
            else:
                self._alone.popleft().given(host)
                self._take_back()

    def _take_back(self) -> None:
        # The last call of a host may run for hours, while the call that it was set aside for has another host or is
        # gone.
        emptying = [host for host in self._hosts if host.emptying]
        for host in emptying[len(self._alone) :]:
            host.resume()
