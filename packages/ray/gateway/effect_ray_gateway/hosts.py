"""One host: the process that runs calls, its slots, and what happens when it dies."""

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
#: A host has to say HELLO so soon after its actor runs.
START_SECONDS = 60
#: How long the end of a connection waits for the actor to say how the process ended.
EXIT_REPORT_SECONDS = 0.5
#: How long a host that is told to leave may take before it is killed.
LEAVE_SECONDS = 5
#: A host that has lived for so long has come up, whether or not it has ended an attempt.
PROVEN_SECONDS = 5
#: Beyond its grace, how long a host may take to answer a CANCEL before it is killed.
CANCEL_MARGIN_SECONDS = 2


class HostState(enum.Enum):
    """Where a host is in its life."""

    #: It is asked for, and has said no HELLO yet.
    STARTING = "starting"
    #: It takes calls, as many as it has slots.
    SERVING = "serving"
    #: It gets no more calls until its last one has ended, for the sake of one that must be alone.
    EMPTYING = "emptying"
    #: It runs a call that must be alone.
    ALONE = "alone"
    #: It gets no more calls, and leaves when its last one has ended.
    RETIRING = "retiring"
    #: Nothing of it counts any more; the actor may still say how it ended.
    FENCED = "fenced"
    #: Its calls have ended.
    GONE = "gone"


# By name an Enum's members are found slowly, and `receive` and `open` ask with every frame.
_STARTING, _SERVING, _EMPTYING, _ALONE, _RETIRING, _FENCED, _GONE = HostState
#: What each state may be followed by.
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
    """A host from the order to place it until it is gone."""

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
        #: The pool that gets its resources when its last call has ended. Until then it may be taken back.
        self.yields_to: Optional["Pool"] = None
        #: It has ended an attempt, or lived for some time: until then its end is a start that failed.
        self.proven = False
        #: Neither it nor the calls that it had are to blame for its end.
        self.collateral = False
        self.up_since = self.idle_since = time.monotonic()
        self._gateway = gateway
        #: Its RESULT frames come in by this.
        self.intake = Intake(self._send, 0, 0, 0)
        self._cancels: Dict[int, float] = {}
        self._placed: Optional[Placed] = None
        self._placed_at: Optional[float] = None
        #: How its process ended, as the actor said.
        self._exit: Optional[Exit] = None
        #: Its end was asked for.
        self._expected = False
        #: So long it may take to end by itself before its actor is killed.
        self._kill_after = 0.0

    # Its state

    def _become(self, state: HostState) -> None:
        assert state in _NEXT[self.state], f"a host that is {self.state.value} cannot be {state.value}"
        self.state = state

    @property
    def up(self) -> bool:
        """It has shaken hands and is not fenced."""
        return self.state is not _STARTING and not self.fenced

    @property
    def fenced(self) -> bool:
        """Nothing of it counts any more."""
        state = self.state
        return state is _FENCED or state is _GONE

    @property
    def open(self) -> bool:
        """It can take a call now."""
        return (
            self.state is _SERVING
            and len(self.calls) < self.slots
            and self.connection is not None
            and not self.connection.slow
        )

    @property
    def emptying(self) -> bool:
        """It is set aside for a call that must be alone."""
        return self.state is _EMPTYING

    @property
    def retiring(self) -> bool:
        """It leaves when its last call has ended."""
        return self.state is _RETIRING

    @property
    def alone(self) -> bool:
        """It runs a call that must be alone."""
        return any(call.alone for call in self.calls.values())

    # Its life

    def place(self) -> Placed:
        """The hold on the actor that it is about to have."""
        placed = self._placed = Placed()
        if self.fenced:
            placed.kill()
        return placed

    def was_placed(self) -> None:
        """Its actor runs."""
        self._placed_at = time.monotonic()

    def connect(self, connection: Connection, hello: Dict[str, Any]) -> None:
        """The host has dialled and proved its token."""
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
        """Gives it no more calls; it leaves when its last one has ended, at once if it has none, for the sake of another pool."""
        if self.fenced or self.retiring:
            return
        self.yields_to = yields_to
        if not self.calls:
            return self.leave()
        self._become(_RETIRING)
        self.pool.dispatch.close(self)
        self.pool.dispatch.go_on()

    def resume(self) -> None:
        """It takes calls again: what it was set aside for, or was to leave for, needs it no more."""
        self.yields_to = None
        self._become(_ALONE if self.alone else _SERVING)
        self.pool.dispatch.freed(self)

    def leave(self) -> None:
        """An orderly end."""
        if self.fenced:
            return
        self._kill_after = LEAVE_SECONDS
        if self.connection is not None:
            self.connection.send(frames.frame(frames.BYE))
            self.connection.close("the host is not needed any more")
        self.fence(Exit("terminated", "the host is not needed any more"), collateral=True, expected=True)

    def exited(self, exit: Exit) -> None:
        """The actor says how the process ended, or is gone itself."""
        self._exit = exit
        if self.fenced:
            self._settle(exit)
        else:
            self.fence(exit)

    def fence(self, why: Exit, collateral: bool = False, wait: bool = False, expected: bool = False) -> None:
        """Nothing of this host counts from now on: its socket is closed, its actor killed, its calls are lost.

        `wait`: the actor may know better why, give it a moment before the calls end. `expected`: it was asked for.
        """
        if self.fenced:
            return
        self._become(_FENCED)
        # At once: what is handed to it from now on would be lost with it.
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
        """Sends it a call. `Call.given` is the one that may."""
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
            # Sent without credit, so none comes back for it.
            self._ended(call, data, 0)
        elif type_ == frames.BYE:
            self.fence(Exit("terminated", "the host asked to be replaced"), collateral=True)
        else:
            raise frames.ProtocolError(f"a host does not send frame {type_}")

    def _ended(self, number: int, data: bytes, taken: int) -> None:
        call = self.calls.pop(number, None)
        if call is None:
            # Of a call that it has no more.
            return self.intake.release(1, taken) if taken else None
        self._prove()
        if self._cancels:
            self._cancels.pop(number, None)
        call.end(data, taken)
        if not self.calls and self._emptied():
            return
        self.pool.dispatch.freed(self)

    def _emptied(self) -> bool:
        """Its last call has ended. Whether it leaves."""
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
        """Passes a CANCEL on; a host that does not answer it in time is killed."""
        deadline = time.monotonic() + grace_seconds + CANCEL_MARGIN_SECONDS
        self._cancels[call.number] = min(deadline, self._cancels.get(call.number, deadline))
        self._send(data)

    def tick(self, now: float) -> None:
        """Enforces what has a deadline: the HELLO after a start, and the answers to CANCEL."""
        if self.fenced:
            return
        if self.state is _STARTING and self._placed_at is not None and now - self._placed_at > START_SECONDS:
            self.fence(Exit("exit", f"the host said no HELLO within {START_SECONDS} s"))
        if self.up and now - self.up_since >= PROVEN_SECONDS:
            self._prove()
        if self.connection is not None and (self.intake.spent or not self.connection.reading):
            # The answers may be there, unsent or unread.
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
        # A host that did not hear from the gateway for long enough has ended itself.
        collateral = self._gateway.was_away()
        self.fence(Exit(kind, f"the host's connection ended: {reason}"), collateral, wait=kind == "exit")
