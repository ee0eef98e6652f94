"""The fair line: waiting calls of several supervisors, each of which gets a fair share."""

from collections import deque
from typing import TYPE_CHECKING, Deque, Dict, Optional

from .calls import Call

if TYPE_CHECKING:
    from .supervisors import Supervisor

#: How much a supervisor may send in one turn, in units of `COST_BYTES`.
QUANTUM = 8
COST_BYTES = 64 * 1024


class _Line:
    __slots__ = ("supervisor", "calls", "deficit")

    def __init__(self, supervisor: "Supervisor") -> None:
        self.supervisor = supervisor
        self.calls: Deque[Call] = deque()
        self.deficit = 0


class FairLine:
    """Waiting calls, served by deficit round-robin over supervisors. A call costs one unit, and one more for each 64 KiB."""

    __slots__ = ("count", "_lines", "_ring")

    def __init__(self) -> None:
        self.count = 0
        self._lines: Dict[int, _Line] = {}
        self._ring: Deque[_Line] = deque()

    def push(self, call: Call) -> None:
        """Adds the call at the end of its supervisor's line."""
        line = self._lines.get(call.supervisor.number)
        if line is None:
            line = self._lines[call.supervisor.number] = _Line(call.supervisor)
            self._ring.append(line)
        line.calls.append(call)
        self.count += 1

    def dropped(self) -> None:
        """Called when a waiting call has ended: its `run` is no longer set."""
        self.count -= 1

    def forget(self, supervisor: "Supervisor") -> None:
        """Called when the supervisor is gone and has no waiting calls any more."""
        line = self._lines.pop(supervisor.number, None)
        if line is not None:
            self._ring.remove(line)

    def pop(self) -> Optional[Call]:
        """Removes and returns the next call; none if no call waits, or only calls of supervisors that do not read."""
        ring, passed = self._ring, 0
        while ring and passed < len(ring):
            line = ring[0]
            calls = line.calls
            while calls and calls[0].run is None:
                calls.popleft()
            if not calls:
                ring.popleft()
                del self._lines[line.supervisor.number]
            elif line.supervisor.blocked:
                ring.rotate(-1)
                passed += 1
            elif line.deficit < (cost := 1 + len(calls[0].run or b"") // COST_BYTES):
                line.deficit += QUANTUM
                ring.rotate(-1)
                passed = 0
            else:
                line.deficit -= cost
                self.count -= 1
                return calls.popleft()
        return None

    def priority(self) -> int:
        """Returns the highest priority of the waiting calls; -1 if there are none."""
        return max((call.priority for line in self._ring for call in line.calls if call.run is not None), default=-1)

    def drain(self) -> Deque[Call]:
        """Removes and returns all waiting calls."""
        waiting = deque(call for line in self._ring for call in line.calls if call.run is not None)
        self._ring.clear()
        self._lines.clear()
        self.count = 0
        return waiting
