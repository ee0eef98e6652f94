"""One call: an attempt on its way through the gateway, from its RUN to its end."""

from typing import TYPE_CHECKING, Any, Dict, Optional

from . import frames

if TYPE_CHECKING:
    from .hosts import Host
    from .pool import Pool
    from .retained import Kept
    from .supervisors import Supervisor


class Call:
    """An attempt. It waits (`run` is set), runs (`host` is set) or has ended (`kept` is set) until its ACK.

    It has taken the credit of its RUN, on the connection by which that came last. `given` and `end` are the only places where
    that credit, and the one of its RESULT, is repaid, and `end` the only one where an end is told. What never becomes a call, or
    is of none, is repaid by whoever read it.
    """

    __slots__ = ("number", "ident", "supervisor", "pool", "priority", "alone", "run", "host", "started", "kept", "_intake")

    def __init__(self, number: int, data: bytes, supervisor: "Supervisor", pool: "Pool", priority: int, alone: bool = False) -> None:
        self.number = number
        self.priority = priority
        #: It wants a host that runs nothing else meanwhile.
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
        """Its RUN has come once more. Whether it has taken the credit of that: the one before went with its connection."""
        intake = self.supervisor.intake
        if self.run is None or self._intake is intake:
            return False
        self.run, self._intake = data, intake
        return True

    def given(self, host: "Host") -> None:
        """A host gets it, which has room for it. Its RUN is no longer held here."""
        data, self.run = self.run, None
        assert data is not None
        self.host = host
        host.take(self, data)
        self._repay(len(data))

    def end(self, data: bytes, taken: int = 0) -> None:
        """It has ended, as this frame tells. `taken`: so many bytes of its host's credit are in the frame."""
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
        """Its handler has begun, as this frame tells."""
        if not self.started:
            self.started = True
            self.supervisor.send(data)

    def lost(self, kind: str, detail: str, collateral: bool) -> bytes:
        """The LOST frame of this call."""
        return self._lost({"kind": kind, "detail": detail, "collateral": collateral})

    def unplaced(self, why: str, detail: str) -> bytes:
        """The LOST frame of a call that no host has had. `why` is one of those in `docs/gateway-protocol.md`."""
        return self._lost({"kind": "unplaced", "why": why, "detail": detail, "collateral": True})

    def _lost(self, value: Dict[str, Any]) -> bytes:
        return frames.json_frame(frames.LOST, value, self.host.number if self.host else 0, self.number, self.ident)

    def interrupted(self) -> bytes:
        """The RESULT of a call that was cancelled before a host had it."""
        return frames.frame(frames.RESULT, b"", frames.INTERRUPTED << frames.KIND_SHIFT, 0, self.number, self.ident)
