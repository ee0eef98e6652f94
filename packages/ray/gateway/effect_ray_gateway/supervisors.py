"""A supervisor as the gateway knows it: its calls, their results until they are acknowledged, and its lease.

It outlives its connections: if the same id connects again within its lease, everything is as before.
"""

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, Dict, List, Optional, Tuple

from . import frames
from .calls import Call
from .connection import Connection
from .credit import Intake
from .log import log

if TYPE_CHECKING:
    from .gateway import Gateway
    from .hosts import Host
    from .pool import Pool
    from .retained import Kept

CREDIT_FRAMES = 8192
CREDIT_BYTES = 32 * 1024 * 1024
MAX_LEASE_SECONDS = 3600
DEFAULT_LEASE_SECONDS = 30
#: The largest body that a supervisor may request in its HELLO.
MAX_BODY_BYTES = 256 * 1024 * 1024
MAX_GRACE_MILLIS = 3_600_000
MAX_POOLS = 1024


class Supervisor:
    """A supervisor that is connected or within its lease."""

    def __init__(self, gateway: "Gateway", number: int, hello: Dict[str, Any]) -> None:
        self.id: str = hello["id"]
        self.number = number
        self.calls: Dict[int, Call] = {}
        #: The pools that it uses, by number, and its own `ref` for each.
        self.pools: Dict[int, "Pool"] = {}
        self.refs: Dict[int, int] = {}
        self.connection: Optional[Connection] = None
        self.gone = False
        #: Whether its socket accepts no more bytes. Its waiting calls are then skipped, and its hosts get no credit
        #: back.
        self.blocked = False
        self._gateway = gateway
        self._lease_seconds, self._max_body_bytes = _terms(hello)
        self._expires = 0.0
        self._drain_by: Optional[float] = None
        #: Receives its RUN frames.
        self.intake = Intake(self.send, 0, 0, 0)
        self._owed: List[Tuple["Host", int]] = []
        #: Calls whose kept ends must be sent again when its socket accepts more bytes.
        self._repeats: Deque[Call] = deque()

    def connect(self, connection: Connection, hello: Dict[str, Any]) -> None:
        """Uses a new connection, and closes the old one, because there can only be one."""
        old, self.connection = self.connection, connection
        if old is not None:
            old.close("the supervisor connected again")
        self._lease_seconds, self._max_body_bytes = _terms(hello)
        max_body = self._max_body_bytes + 2 * frames.ENVELOPE_BYTES
        self.intake = Intake(self.send, CREDIT_FRAMES, max(CREDIT_BYTES, 2 * max_body), max_body)
        self._drain_by = None
        self._repeats.clear()
        connection.send(
            frames.json_frame(
                frames.WELCOME,
                {
                    "number": self.number,
                    "instance": self._gateway.instance,
                    "credit": {"frames": self.intake.frames, "bytes": self.intake.bytes},
                },
            )
        )
        # Hosts may have come up while it was away, and their results may follow at once.
        for pool in self.pools.values():
            pool.join(self)
        self._unblock()

    def receive(self, type_: int, flags: int, route: int, call: int, data: bytes) -> None:
        if type_ == frames.RUN:
            self._run(flags, route, call, data)
        elif type_ == frames.ACK:
            self._acknowledge(frames.read_ack(data))
        elif type_ == frames.CANCEL:
            self._cancel(call, data)
        elif type_ == frames.POOL:
            self._open(frames.body_json(data))
        elif type_ == frames.DRAIN:
            self._drain_by = time.monotonic() + _number(frames.body_json(data).get("deadlineSeconds"), 0, MAX_LEASE_SECONDS)
        elif type_ == frames.BYE:
            self._leave("it left")
        else:
            raise frames.ProtocolError(f"a supervisor does not send frame {type_}")

    def _run(self, flags: int, route: int, call: int, data: bytes) -> None:
        pool = self.pools.get(route)
        if pool is None or call >> 48 != self.number:
            raise frames.ProtocolError("a RUN names a pool or a supervisor's number that is not its own")
        whole = self.intake.accept(flags, call, data, pool.spec.max_payload_bytes + frames.ENVELOPE_BYTES)
        if whole is None:
            return
        known = self.calls.get(call)
        if known is not None:
            # It is the same call.
            if not known.repeated(whole):
                self.intake.release(1, len(whole))
            return self._again(known)
        priority = flags >> frames.PRIORITY_SHIFT & frames.PRIORITY_MASK
        entry = self.calls[call] = Call(call, whole, self, pool, priority, bool(flags & frames.ALONE))
        pool.submit(entry)

    def _again(self, call: Call) -> None:
        # The supervisor has reconnected. Frames on its last connection may have been lost.
        if call.kept is not None:
            self._repeats.append(call)
            self._repeat()
        elif call.started and call.host is not None:
            self.send(frames.frame(frames.STARTED, b"", 0, call.host.number, call.number, call.ident))

    def _repeat(self) -> None:
        repeats, connection = self._repeats, self.connection
        while repeats and connection is not None and not self.blocked:
            call = repeats.popleft()
            if call.kept is not None and call.number in self.calls:
                connection.send(self._gateway.retained.read(call.kept))
                connection.flush_large()

    def _acknowledge(self, calls: Tuple[int, ...]) -> None:
        table, forget = self.calls, self._gateway.retained.forget
        for number in calls:
            call = table.get(number)
            if call is not None and call.kept is not None:
                del table[number]
                forget(call.kept)

    def _cancel(self, number: int, data: bytes) -> None:
        call = self.calls.get(number)
        if call is None or call.kept is not None:
            return
        grace_millis = _number(frames.body_json(data).get("graceMillis"), 0, MAX_GRACE_MILLIS)
        if call.host is not None:
            call.host.cancel(call, data, grace_millis / 1000)
        else:
            call.end(call.interrupted())
            call.pool.dispatch.forget(call)

    def _open(self, spec: Dict[str, Any]) -> None:
        ref = spec.pop("ref", None)
        if not isinstance(ref, int) or len(self.pools) >= MAX_POOLS:
            raise frames.ProtocolError(f"POOL needs a ref, and there are at most {MAX_POOLS} pools")
        try:
            pool = self._gateway.open_pool(spec)
        except ValueError as error:
            state = {"ref": ref, "pool": 0, "state": "failed", "detail": str(error), "slots": 0}
            return self.send(frames.json_frame(frames.POOL_STATE, state))
        self.pools[pool.number] = pool
        self.refs[pool.number] = ref
        pool.join(self)

    def tell(self, data: bytes) -> Optional["Kept"]:
        """Sends the end of a call, and keeps it until its ACK. Does nothing if the supervisor is gone. Only `Call.end`
        may call this.
        """
        if self.gone:
            return None
        kept = self._gateway.retained.keep(data)
        if self.connection is not None:
            self.connection.send(data)
        return kept

    def owe(self, host: "Host", taken: int) -> None:
        """Repays the credit of a result to its host when the socket accepts more bytes."""
        self._owed.append((host, taken))

    def send(self, data: bytes) -> None:
        """Sends if there is a connection. Frames that must not be lost are sent again when their RUN is."""
        if self.connection is not None:
            self.connection.send(data)

    def slow(self, connection: Connection, is_slow: bool) -> None:
        if connection is not self.connection or self.gone:
            return
        if is_slow:
            self.blocked = True
        else:
            self._unblock()

    def _unblock(self) -> None:
        self.blocked = False
        owed, self._owed = self._owed, []
        for host, size in owed:
            host.intake.release(1, size)
        for pool in self.pools.values():
            pool.dispatch.go_on()
        self._repeat()

    def disconnected(self, connection: Connection, reason: str) -> None:
        if connection is not self.connection or self.gone:
            return
        log("info", "a supervisor's connection ended", supervisor=self.id, reason=reason)
        self.connection = None
        self._expires = time.monotonic() + self._lease_seconds
        self._unblock()

    def tick(self, now: float) -> None:
        """Ends the supervisor when its lease or its drain deadline has passed."""
        if self.connection is None and now >= self._expires:
            self._leave(f"it was away for its lease of {self._lease_seconds:g} s")
        elif self._drain_by is not None and now >= self._drain_by:
            self._leave("its drain deadline has passed")

    def _leave(self, why: str) -> None:
        if self.gone:
            return
        self.gone = True
        log("info", "a supervisor is gone", supervisor=self.id, reason=why, calls=len(self.calls))
        for call in list(self.calls.values()):
            if call.kept is not None:
                self._gateway.retained.forget(call.kept)
            elif call.host is not None:
                grace_millis = call.pool.spec.grace_millis
                body = frames.json_frame(frames.CANCEL, {"graceMillis": grace_millis}, 0, call.number, call.ident)
                call.host.cancel(call, body, grace_millis / 1000)
            else:
                call.end(call.interrupted())
                call.pool.dispatch.forget(call)
        self.calls.clear()
        self._unblock()
        for pool in self.pools.values():
            pool.leave(self)
        self._gateway.left(self)
        if self.connection is not None:
            self.connection.send(frames.frame(frames.BYE))
            self.connection.close(why)


def _terms(hello: Dict[str, Any]) -> Tuple[float, int]:
    lease = _number(hello.get("leaseSeconds", DEFAULT_LEASE_SECONDS), 0, MAX_LEASE_SECONDS)
    return lease, int(_number(hello.get("maxBodyBytes", 0), 0, MAX_BODY_BYTES))


def _number(value: Any, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise frames.ProtocolError(f"{value!r} is not a number from {least} to {most}")
    return value
