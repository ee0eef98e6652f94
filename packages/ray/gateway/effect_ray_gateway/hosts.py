"""A host: the process that runs calls, its slots, and what happens when it dies."""

import asyncio
import enum
import time
from typing import TYPE_CHECKING, Any, Dict, Optional

from . import auth, frames
from .calls import Call
from .connection import Connection
from .credit import Intake
from .log import log
from .placement import Exit, Placed

if TYPE_CHECKING:
    from .gateway import Gateway
    from .pool import Pool

MAX_SLOTS = 4096
CREDIT_FRAMES = 64
CREDIT_BYTES = 8 * 1024 * 1024
#: How long a host may take to send HELLO after its actor has started.
START_SECONDS = 60
#: How long the end of a connection waits for the actor to report how the process ended.
EXIT_REPORT_SECONDS = 0.5
#: How long a host that was told to leave may take before it is killed.
LEAVE_SECONDS = 5
#: How long a host has to live to count as started successfully, even if it has not ended an attempt.
PROVEN_SECONDS = 5
#: How long after the grace a host may take to answer a CANCEL before it is killed.
CANCEL_MARGIN_SECONDS = 2


class HostState(enum.Enum):
    """The state of a host."""

    #: It has been requested, but has not sent HELLO yet.
    STARTING = "starting"
    #: It takes as many calls as it has slots.
    SERVING = "serving"
    #: It gets no more calls until its last one has ended. Then it runs a call that must be alone.
    EMPTYING = "emptying"
    #: It runs a call that must be alone.
    ALONE = "alone"
    #: It gets no more calls, and leaves when its last one has ended.
    RETIRING = "retiring"
    #: Its frames are ignored. The actor may still report how it ended.
    FENCED = "fenced"
    #: Its calls have ended.
    GONE = "gone"


# Looking up the members of an Enum by name is slow, and `receive` and `open` do it for every frame.
_STARTING, _SERVING, _EMPTYING, _ALONE, _RETIRING, _FENCED, _GONE = HostState
#: The states that may follow each state.
_NEXT = {
    _STARTING: {_SERVING, _FENCED},
    _SERVING: {_EMPTYING, _ALONE, _RETIRING, _FENCED},
    _EMPTYING: {_SERVING, _RETIRING, _FENCED},
    _ALONE: {_SERVING, _RETIRING, _FENCED},
    _RETIRING: {_SERVING, _ALONE, _FENCED},
    _FENCED: {_GONE},
    _GONE: set(),
}


class Host:
    """A host, from the request for its actor until it is gone."""

    def __init__(self, gateway: "Gateway", pool: "Pool", number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.pool = pool
        self.token = auth.token()
        self.slots = 0
        self.node = ""
        self.pid = 0
        self.state = _STARTING
        self.calls: Dict[int, Call] = {}
        self.connection: Optional[Connection] = None
        #: The pool that gets its resources when its last call has ended. Until then this can be reversed.
        self.yields_to: Optional["Pool"] = None
        #: Whether it has ended an attempt, or lived for long enough. Before that, its end counts as a failed start.
        self.proven = False
        #: Whether neither the host nor its calls caused its end.
        self.collateral = False
        self.up_since = self.idle_since = time.monotonic()
        self._gateway = gateway
        #: Receives its RESULT frames.
        self.intake = Intake(self._send, 0, 0, 0)
        self._cancels: Dict[int, float] = {}
        self._placed: Optional[Placed] = None
        self._placed_at: Optional[float] = None
        #: How its process ended, as the actor reported.
        self._exit: Optional[Exit] = None
        #: Whether its end was requested.
        self._expected = False
        #: How long it may take to end by itself before its actor is killed, in seconds.
        self._kill_after = 0.0

    # Its state

    def _become(self, state: HostState) -> None:
        assert state in _NEXT[self.state], f"a host that is {self.state.value} cannot be {state.value}"
        self.state = state

    @property
    def up(self) -> bool:
        """Whether it has finished the handshake and is not fenced."""
        return self.state is not _STARTING and not self.fenced

    @property
    def fenced(self) -> bool:
        """Whether its frames are ignored."""
        state = self.state
        return state is _FENCED or state is _GONE

    @property
    def open(self) -> bool:
        """Whether it can take a call now."""
        return (
            self.state is _SERVING
            and len(self.calls) < self.slots
            and self.connection is not None
            and not self.connection.slow
        )

    @property
    def emptying(self) -> bool:
        """Whether it is set aside for a call that must be alone."""
        return self.state is _EMPTYING

    @property
    def retiring(self) -> bool:
        """Whether it leaves when its last call has ended."""
        return self.state is _RETIRING

    @property
    def alone(self) -> bool:
        """Whether it runs a call that must be alone."""
        return any(call.alone for call in self.calls.values())

    # Its life

    def place(self) -> Placed:
        """Returns the handle of the actor that is about to be made."""
        placed = self._placed = Placed()
        if self.fenced:
            placed.kill()
        return placed

    def was_placed(self) -> None:
        """Called when its actor is running."""
        self._placed_at = time.monotonic()

    def connect(self, connection: Connection, hello: Dict[str, Any]) -> None:
        """Called when the host has connected and proved its token."""
        slots, pid, node = hello.get("slots"), hello.get("pid"), hello.get("node")
        if not isinstance(slots, int) or not 0 < slots <= MAX_SLOTS or not isinstance(pid, int) or not isinstance(node, str):
            raise frames.ProtocolError(f"a host's HELLO needs pid, node and 1 to {MAX_SLOTS} slots")
        self._become(_SERVING)
        self.connection, self.slots, self.pid, self.node = connection, slots, pid, node
        max_body = self.pool.spec.max_result_bytes + 2 * frames.ENVELOPE_BYTES
        self.intake = Intake(self._send, CREDIT_FRAMES + 4 * slots, max(CREDIT_BYTES, 2 * max_body), max_body)
        credit = {"frames": self.intake.frames, "bytes": self.intake.bytes}
        connection.send(frames.json_frame(frames.WELCOME, {"number": self.number, "credit": credit}))
        self.up_since = self.idle_since = time.monotonic()
        self.pool.fleet.came_up(self)

    def set_aside(self) -> None:
        """Gives it no more calls until its last one has ended."""
        self._become(_EMPTYING)

    def retire(self, yields_to: Optional["Pool"] = None) -> None:
        """Gives it no more calls. It leaves when its last one has ended, or at once if it has none. `yields_to` is the
        pool that gets its resources.
        """
        if self.fenced or self.retiring:
            return
        self.yields_to = yields_to
        if not self.calls:
            return self.leave()
        self._become(_RETIRING)
        self.pool.dispatch.close(self)
        self.pool.dispatch.go_on()

    def resume(self) -> None:
        """Takes calls again: the call or pool that it was reserved for no longer needs it."""
        self.yields_to = None
        self._become(_ALONE if self.alone else _SERVING)
        self.pool.dispatch.freed(self)

    def leave(self) -> None:
        """Ends the host in order."""
        if self.fenced:
            return
        self._kill_after = LEAVE_SECONDS
        if self.connection is not None:
            self.connection.send(frames.frame(frames.BYE))
            self.connection.close("the host is not needed any more")
        self.fence(Exit("terminated", "the host is not needed any more"), collateral=True, expected=True)

    def exited(self, exit: Exit) -> None:
        """Called when the actor has reported how the process ended, or is gone itself."""
        self._exit = exit
        if self.fenced:
            self._settle(exit)
        else:
            self.fence(exit)

    def fence(self, why: Exit, collateral: bool = False, wait: bool = False, expected: bool = False) -> None:
        """Ignores the host from now on: its socket is closed, its actor is killed, and its calls are lost.

        `collateral`: neither the host nor its calls caused this. `wait`: gives the actor a moment to report the reason
        before the calls end. `expected`: the end was requested.
        """
        if self.fenced:
            return
        self._become(_FENCED)
        # First, because a call given to it from now on would be lost too.
        self.pool.dispatch.remove(self)
        self.collateral, self._expected = collateral, expected
        if self.connection is not None:
            self.connection.abort("the host is fenced")
        if wait and self._exit is None:
            asyncio.get_running_loop().call_later(EXIT_REPORT_SECONDS, self._settle, why)
        else:
            self._settle(why)

    def _settle(self, why: Exit) -> None:
        if self.state is _GONE:
            return
        self._become(_GONE)
        if self._placed is not None:
            if self._kill_after:
                asyncio.get_running_loop().call_later(self._kill_after, self._placed.kill)
            else:
                self._placed.kill()
        if self.calls or not self._expected:
            log("warning", "a host is gone", host=self.name, kind=why.kind, detail=why.detail, calls=len(self.calls))
        calls, self.calls = self.calls, {}
        self._cancels.clear()
        for call in calls.values():
            call.end(call.lost(why.kind, why.detail, self.collateral))
        self.pool.fleet.went_down(self, why)
        self._gateway.host_gone(self)

    # Its calls

    def take(self, call: Call, data: bytes) -> None:
        """Sends it a call. Only `Call.given` may call this."""
        assert self.connection is not None
        self.calls[call.number] = call
        if call.alone:
            self._become(_ALONE)
        self.connection.send(data)

    def receive(self, type_: int, flags: int, route: int, call: int, data: bytes) -> None:
        if self.fenced:
            return
        if type_ == frames.RESULT:
            whole = self.intake.accept(flags, call, data, self.pool.spec.max_result_bytes + frames.ENVELOPE_BYTES)
            if whole is not None:
                self._ended(call, whole, len(whole))
        elif type_ == frames.STARTED:
            entry = self.calls.get(call)
            if entry is not None:
                entry.start(data)
        elif type_ == frames.LOST:
            # It was sent without credit, so none is repaid.
            self._ended(call, data, 0)
        elif type_ == frames.BYE:
            self.fence(Exit("terminated", "the host asked to be replaced"), collateral=True)
        else:
            raise frames.ProtocolError(f"a host does not send frame {type_}")

    def _ended(self, number: int, data: bytes, taken: int) -> None:
        call = self.calls.pop(number, None)
        if call is None:
            # It belongs to a call that this host no longer has.
            return self.intake.release(1, taken) if taken else None
        self._prove()
        if self._cancels:
            self._cancels.pop(number, None)
        call.end(data, taken)
        if not self.calls and self._emptied():
            return
        self.pool.dispatch.freed(self)

    def _emptied(self) -> bool:
        """Called when its last call has ended. Returns whether it leaves."""
        self.idle_since = time.monotonic()
        if self.retiring:
            self.leave()
            return True
        if self.state is not _SERVING and not self.fenced:
            self._become(_SERVING)
        return False

    def _prove(self) -> None:
        if not self.proven:
            self.proven = True
            self.pool.fleet.proved()

    def _send(self, data: bytes) -> None:
        if self.connection is not None:
            self.connection.send(data)

    def cancel(self, call: Call, data: bytes, grace_seconds: float) -> None:
        """Passes on a CANCEL. If the host does not answer it in time, it is killed."""
        deadline = time.monotonic() + grace_seconds + CANCEL_MARGIN_SECONDS
        self._cancels[call.number] = min(deadline, self._cancels.get(call.number, deadline))
        self._send(data)

    def tick(self, now: float) -> None:
        """Enforces the deadlines for the HELLO after a start and for the answers to CANCEL."""
        if self.fenced:
            return
        if self.state is _STARTING and self._placed_at is not None and now - self._placed_at > START_SECONDS:
            self.fence(Exit("exit", f"the host did not send HELLO within {START_SECONDS} s"))
        if self.up and now - self.up_since >= PROVEN_SECONDS:
            self._prove()
        if self.connection is not None and (self.intake.spent or not self.connection.reading):
            # The answers may exist, but be unsent or unread.
            self._cancels = {number: now + CANCEL_MARGIN_SECONDS for number in self._cancels}
        late = [number for number, deadline in self._cancels.items() if now > deadline]
        if late:
            detail = "a cancelled attempt did not stop, so its host was killed"
            for number in late:
                del self._cancels[number]
                call = self.calls.pop(number, None)
                if call is not None:
                    call.end(call.lost("terminated", detail, False))
            self.fence(Exit("terminated", detail), collateral=True)

    # Its connection

    def slow(self, connection: Connection, is_slow: bool) -> None:
        if is_slow:
            self.pool.dispatch.close(self)
        else:
            self.pool.dispatch.freed(self)

    def disconnected(self, connection: Connection, reason: str) -> None:
        if self.fenced:
            return
        kind = "heartbeat" if connection.was_silent else "exit"
        # A host that received nothing from the gateway for long enough has ended itself.
        collateral = self._gateway.was_away()
        self.fence(Exit(kind, f"the host's connection ended: {reason}"), collateral, wait=kind == "exit")
