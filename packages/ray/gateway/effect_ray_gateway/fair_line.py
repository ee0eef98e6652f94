"""The fair line: waiting calls of several supervisors, each of which gets its share."""

from collections import deque
from typing import TYPE_CHECKING, Deque, Dict, Optional

from .calls import Call

if TYPE_CHECKING:
    from .supervisors import Supervisor

#: What a supervisor may send through in one turn, in units of `COST_BYTES`.
QUANTUM = 8
COST_BYTES = 64 * 1024


class _Line:
    __slots__ = ("supervisor", "calls", "deficit")

    def __init__(self, supervisor: "Supervisor") -> None:
        self.supervisor = supervisor
        self.calls: Deque[Call] = deque()
        self.deficit = 0


class FairLine:
    """Waiting calls, served by deficit round-robin over supervisors; a call costs one, and one more each 64 KiB."""

    __slots__ = ("count", "_lines", "_ring")

    def __init__(self) -> None:
        self.count = 0
        self._lines: Dict[int, _Line] = {}
        self._ring: Deque[_Line] = deque()

    def push(self, call: Call) -> None:
        """Puts the call at the end of its supervisor's line."""
        line = self._lines.get(call.supervisor.number)
        if line is None:
            line = self._lines[call.supervisor.number] = _Line(call.supervisor)
            self._ring.append(line)
        line.calls.append(call)
        self.count += 1

    def dropped(self) -> None:
        """A waiting call has ended where it stands: its `run` is gone."""
        self.count -= 1

    def forget(self, supervisor: "Supervisor") -> None:
        """The supervisor is gone, and none of its calls waits any more."""
        line = self._lines.pop(supervisor.number, None)
        if line is not None:
            self._ring.remove(line)

    def pop(self) -> Optional[Call]:
        """The next call; none when nothing waits, or only calls of supervisors that do not read."""
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
        """The highest priority of what waits; -1 when nothing does."""
        return max((call.priority for line in self._ring for call in line.calls if call.run is not None), default=-1)

    def drain(self) -> Deque[Call]:
        """Takes all that waits."""
        waiting = deque(call for line in self._ring for call in line.calls if call.run is not None)
        self._ring.clear()
        self._lines.clear()
        self.count = 0
        return waiting
