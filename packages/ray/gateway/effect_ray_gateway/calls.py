"""A call: one delivery of an attempt through the gateway, from its RUN to its end."""

from typing import TYPE_CHECKING, Any, Dict, Optional

from . import frames

if TYPE_CHECKING:
    from .hosts import Host
    from .pool import Pool
    from .retained import Kept
    from .supervisors import Supervisor


class Call:
    """A call. It waits (`run` is set), runs (`host` is set) or has ended (`kept` is set), until its ACK.

    It has taken the credit of its RUN, on the connection that its RUN came by last. Only `given` and `end` repay that credit and the credit of its RESULT, and only
    `end` reports an end. If a frame does not become a call, or belongs to none, the code that read it repays its
    credit.
    """

    __slots__ = ("number", "ident", "supervisor", "pool", "priority", "alone", "run", "host", "started", "kept", "_intake")

    def __init__(self, number: int, data: bytes, supervisor: "Supervisor", pool: "Pool", priority: int, alone: bool = False) -> None:
        self.number = number
        self.priority = priority
        #: Whether it must have a host to itself.
        self.alone = alone
        self.ident = data[frames.IDENT_OFFSET : frames.HEADER_BYTES]
        self.supervisor = supervisor
        self.pool = pool
        self.run: Optional[bytes] = data
        self.host: Optional["Host"] = None
        self.started = False
        self.kept: Optional["Kept"] = None
        self._intake = supervisor.intake

    def repeated(self, data: bytes) -> bool:
        """Its RUN has come again. Returns whether the call takes its credit: the credit of an earlier one ended with its connection."""
        intake = self.supervisor.intake
        if self.run is None or self._intake is intake:
            return False
        self.run, self._intake = data, intake
        return True

    def given(self, host: "Host") -> None:
        """Gives the call to a host that has room for it. Its RUN is no longer kept here."""
        data, self.run = self.run, None
        assert data is not None
        self.host = host
        host.take(self, data)
        self._repay(len(data))

    def end(self, data: bytes, taken: int = 0) -> None:
        """Ends the call with this frame. `taken` is how many bytes of its host's credit the frame used."""
        run, self.run = self.run, None
        if run is not None:
            self._repay(len(run))
        self.kept = self.supervisor.tell(data)
        if not taken or self.host is None:
            return
        if self.supervisor.blocked:
            self.supervisor.owe(self.host, taken)
        else:
            self.host.intake.release(1, taken)

    def _repay(self, size: int) -> None:
        # A new connection begins with all of its credit.
        if self._intake is self.supervisor.intake:
            self._intake.release(1, size)

    def start(self, data: bytes) -> None:
        """Reports with this frame that its handler has begun."""
        if not self.started:
            self.started = True
            self.supervisor.send(data)

    def lost(self, kind: str, detail: str, collateral: bool) -> bytes:
        """Returns the LOST frame of this call."""
        return self._lost({"kind": kind, "detail": detail, "collateral": collateral})

    def unplaced(self, why: str, detail: str) -> bytes:
        """Returns the LOST frame of a call that no host has had. `docs/gateway-protocol.md` lists the values of `why`."""
        return self._lost({"kind": "unplaced", "why": why, "detail": detail, "collateral": True})

    def _lost(self, value: Dict[str, Any]) -> bytes:
        return frames.json_frame(frames.LOST, value, self.host.number if self.host else 0, self.number, self.ident)

    def interrupted(self) -> bytes:
        """Returns the RESULT of a call that was cancelled before a host had it."""
        return frames.frame(frames.RESULT, b"", frames.INTERRUPTED << frames.KIND_SHIFT, 0, self.number, self.ident)
