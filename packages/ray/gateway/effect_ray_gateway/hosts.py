"""One host: the process that runs calls, its slots, and what happens when it dies."""

import asyncio
import time
from typing import TYPE_CHECKING, Any, Dict, Optional

from . import auth, frames
from .calls import Call
from .connection import Connection
from .credit import Window
from .log import log
from .placement import Exit, Placed

if TYPE_CHECKING:
    from .gateway import Gateway
    from .pools import Pool

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


class Host:
    """A host from the order to place it until it is fenced."""

    def __init__(self, gateway: "Gateway", pool: "Pool", number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.pool = pool
        self.token = auth.token()
        self.slots = 0
        self.node = ""
        self.pid = 0
        self.calls: Dict[int, Call] = {}
        self.connection: Optional[Connection] = None
        self.placed: Optional[Placed] = None
        #: Set once it may not get calls any more: it leaves when its last call has ended.
        self.retiring = False
        #: It gets no more calls until its last one has ended, for the sake of one that must be alone.
        self.emptying = False
        #: It runs a call that must be alone.
        self.alone = False
        #: The pool that gets its resources when its last call has ended. Until then it may be taken back.
        self.yields_to: Optional["Pool"] = None
        self.fenced = False
        #: It has ended an attempt, or lived for some time: until then its end is a start that failed.
        self.proven = False
        #: It stands in the pool's list of hosts that can take a call.
        self.listed = False
        self.placed_at: Optional[float] = None
        self.up_since = self.idle_since = time.monotonic()
        self._gateway = gateway
        self._window = Window(0, 0, 0)
        self._assembler = frames.Assembler()
        self._cancels: Dict[int, float] = {}
        self._exit: Optional[Exit] = None
        self._settled = False
        #: Neither it nor the calls that it had are to blame for its end.
        self.collateral = False
        self._leaving = False

    @property
    def up(self) -> bool:
        """It has shaken hands and is not fenced."""
        return self.slots > 0 and not self.fenced

    @property
    def open(self) -> bool:
        """It can take a call now."""
        return (
            len(self.calls) < self.slots
            and not (self.fenced or self.retiring or self.emptying or self.alone)
            and self.connection is not None
            and not self.connection.slow
        )

    def connect(self, connection: Connection, hello: Dict[str, Any]) -> None:
        """The host has dialled and proved its token."""
        slots, pid, node = hello.get("slots"), hello.get("pid"), hello.get("node")
        if not isinstance(slots, int) or not 0 < slots <= MAX_SLOTS or not isinstance(pid, int) or not isinstance(node, str):
            raise frames.ProtocolError(f"a host's HELLO needs pid, node and 1 to {MAX_SLOTS} slots")
        self.connection, self.slots, self.pid, self.node = connection, slots, pid, node
        max_body = self.pool.max_result_bytes + 2 * frames.ENVELOPE_BYTES
        self._window = Window(CREDIT_FRAMES + 4 * slots, max(CREDIT_BYTES, 2 * max_body), max_body)
        credit = {"frames": self._window.frames, "bytes": self._window.bytes}
        connection.send(frames.json_frame(frames.WELCOME, {"number": self.number, "credit": credit}))
        self.up_since = self.idle_since = time.monotonic()
        self.pool.came_up(self)

    def give(self, call: Call) -> None:
        """Hands it a call. The pool has seen to it that there is room."""
        data, call.run = call.run, None
        assert data is not None and self.connection is not None
        call.host = self
        self.calls[call.number] = call
        self.connection.send(data)
        call.supervisor.repay(1, len(data))

    def receive(self, type_: int, flags: int, route: int, call: int, data: bytes) -> None:
        if self.fenced:
            return
        if type_ == frames.RESULT:
            self._window.take(len(data))
            whole: Optional[bytes] = data
            if flags & frames.MORE or self._assembler.holds(call):
                whole = self._assembler.add(flags, call, data, self.pool.max_result_bytes + frames.ENVELOPE_BYTES)
                if whole is None:
                    # The count goes back at once, the bytes when the whole body does: they are what occupies memory.
                    return self._return(self._window.repay(1, 0))
            self._ended(call, whole or b"", len(whole or b""))
        elif type_ == frames.STARTED:
            entry = self.calls.get(call)
            if entry is not None and not entry.started:
                entry.started = True
                entry.supervisor.send(data)
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
            return self.repay(taken)
        self._prove()
        if self._cancels:
            self._cancels.pop(number, None)
        if call.supervisor.ended(call, data, taken):
            self.repay(taken)
        self.pool.freed(self)

    def _prove(self) -> None:
        if not self.proven:
            self.proven = True
            self.pool.proved()

    def repay(self, taken: int) -> None:
        """Returns the credit of a result that is no longer held here; of none when it took no bytes."""
        if not taken:
            return
        self._return(self._window.repay(1, taken))

    def _return(self, credit: Optional[bytes]) -> None:
        if credit is not None and self.connection is not None:
            self.connection.send(credit)

    def cancel(self, call: Call, data: bytes, grace_seconds: float) -> None:
        """Passes a CANCEL on; a host that does not answer it in time is killed."""
        deadline = time.monotonic() + grace_seconds + CANCEL_MARGIN_SECONDS
        self._cancels[call.number] = min(deadline, self._cancels.get(call.number, deadline))
        if self.connection is not None:
            self.connection.send(data)

    def tick(self, now: float) -> None:
        """Enforces what has a deadline: the HELLO after a start, and the answers to CANCEL."""
        if self.fenced:
            return
        if self.slots == 0 and self.placed_at is not None and now - self.placed_at > START_SECONDS:
            self.fence(Exit("exit", f"the host said no HELLO within {START_SECONDS} s"))
        if self.up and now - self.up_since >= PROVEN_SECONDS:
            self._prove()
        if self.connection is not None and (self._window.spent or not self.connection.reading):
            # The answers may be there, unsent or unread.
            self._cancels = {number: now + CANCEL_MARGIN_SECONDS for number in self._cancels}
        late = [number for number, deadline in self._cancels.items() if now > deadline]
        if late:
            detail = "a cancelled attempt did not stop, so its host was killed"
            for number in late:
                del self._cancels[number]
                call = self.calls.pop(number, None)
                if call is not None:
                    call.supervisor.ended(call, call.lost("terminated", detail, False))
            self.fence(Exit("terminated", detail), collateral=True)

    def slow(self, connection: Connection, is_slow: bool) -> None:
        if is_slow:
            self.pool.unlist(self)
        else:
            self.pool.freed(self)

    def disconnected(self, connection: Connection, reason: str) -> None:
        if self.fenced:
            return
        kind = "heartbeat" if connection.was_silent else "exit"
        # A host that did not hear from the gateway for long enough has ended itself.
        collateral = self._gateway.was_away()
        self.fence(Exit(kind, f"the host's connection ended: {reason}"), collateral, wait=kind == "exit")

    def exited(self, exit: Exit) -> None:
        """The actor says how the process ended, or is gone itself."""
        self._exit = exit
        if self.fenced:
            self._settle(exit)
        else:
            self.fence(exit)

    def fence(self, why: Exit, collateral: bool = False, wait: bool = False) -> None:
        """Nothing of this host counts from now on: its socket is closed, its actor killed, its calls are lost.

        `wait`: the actor may know better why, give it a moment before the calls end.
        """
        if self.fenced:
            return
        self.fenced = True
        # At once: what is handed to it from now on would be lost with it.
        self.pool.unlist(self)
        self.collateral = collateral
        if self.connection is not None:
            self.connection.abort("the host is fenced")
        if wait and self._exit is None:
            asyncio.get_running_loop().call_later(EXIT_REPORT_SECONDS, self._settle, why)
        else:
            self._settle(why)

    def _settle(self, why: Exit) -> None:
        if self._settled:
            return
        self._settled = True
        if self.placed is not None:
            if self._leaving:
                asyncio.get_running_loop().call_later(LEAVE_SECONDS, self.placed.kill)
            else:
                self.placed.kill()
        if self.calls or not self.retiring:
            log("warning", "a host is gone", host=self.name, kind=why.kind, detail=why.detail, calls=len(self.calls))
        calls, self.calls = self.calls, {}
        self._cancels.clear()
        for call in calls.values():
            call.supervisor.ended(call, call.lost(why.kind, why.detail, self.collateral))
        self.pool.went_down(self, why)
        self._gateway.host_gone(self)

    def leave(self) -> None:
        """An orderly end of a host without calls."""
        self.retiring = self._leaving = True
        if self.connection is not None:
            self.connection.send(frames.frame(frames.BYE))
            self.connection.close("the host is not needed any more")
        self.fence(Exit("terminated", "the host is not needed any more"), collateral=True)
