"""A Python host's connection to the gateway. It runs on its own thread, so it answers PINGs while handlers compute."""

import asyncio
import threading
import time
from collections import deque
from typing import Any, Deque, Dict, Optional, Protocol

from . import auth, frames

PING_SECONDS = 5
SILENT_SECONDS = 15


class Handler(Protocol):
    """The receiver of the connection's events. Called on the connection's thread."""

    def run(self, number: int, ident: bytes, body: bytes) -> None: ...
    def cancel(self, number: int, grace_seconds: float) -> None: ...
    def ended(self, orderly: bool) -> None: ...


class Client(asyncio.Protocol):
    """Connects, authenticates, and then transports frames."""

    def __init__(self, orders: Dict[str, Any], slots: int, pid: int, handler: Handler) -> None:
        self._orders = orders
        self._slots = slots
        self._pid = pid
        self._handler = handler
        self._nonce = auth.nonce()
        self._splitter = frames.Splitter()
        self._assembler = frames.Assembler()
        self._lock = threading.Lock()
        self._started: Dict[int, bytes] = {}
        self._outbox: Deque[bytes] = deque()
        self._waking = False
        self._number = 0
        self._credit_frames = 0
        self._credit_bytes = 0
        self._orderly = False
        self._seen = time.monotonic()
        self._transport: Optional[asyncio.Transport] = None
        self._max_body = orders["limits"].get("maxPayloadBytes", 2 << 20) + frames.ENVELOPE_BYTES
        self.loop = asyncio.new_event_loop()

    def start(self) -> None:
        """Starts the thread."""
        threading.Thread(target=self._main, name="gateway", daemon=True).start()

    def _main(self) -> None:
        address = self._orders["gateway"]
        try:
            self.loop.run_until_complete(self.loop.create_connection(lambda: self, address["host"], address["port"]))
        except OSError:
            return self._handler.ended(False)
        self.loop.run_forever()

    # From handlers' threads

    def started(self, number: int, ident: bytes) -> None:
        """Called when the handler is about to run."""
        with self._lock:
            self._started[number] = frames.frame(frames.STARTED, b"", 0, self._number, number, ident)
        self._wake()

    def finished(self, number: int, ident: bytes, kind: int, body: bytes) -> None:
        """Called when the call has ended. A STARTED that has not been sent is dropped."""
        data = frames.chunked(frames.RESULT, body, kind << frames.KIND_SHIFT, self._number, number, ident)
        with self._lock:
            self._started.pop(number, None)
            self._outbox.extend(data)
        self._wake()

    def _wake(self) -> None:
        if not self._waking:
            self._waking = True
            self.loop.call_soon_threadsafe(self._flush)

    # On the connection's thread

    def terminated(self, number: int, ident: bytes, detail: str) -> None:
        """Reports a call that cannot be stopped as lost, and asks for this host to be replaced."""
        reason = {"kind": "terminated", "detail": detail, "collateral": False}
        self._write(frames.json_frame(frames.LOST, reason, self._number, number, ident) + frames.frame(frames.BYE))

    def _flush(self) -> None:
        self._waking = False
        with self._lock:
            out = list(self._started.values())
            self._started.clear()
            while self._outbox and self._credit_frames > 0 and self._credit_bytes > 0:
                data = self._outbox.popleft()
                self._credit_frames -= 1
                self._credit_bytes -= len(data)
                out.append(data)
        if out:
            self._write(b"".join(out))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        hello = {
            "role": "host",
            "id": self._orders["hostId"],
            "protocols": [frames.PROTOCOL],
            "nonce": self._nonce,
            "maxBodyBytes": self._max_body,
            "pid": self._pid,
            "node": self._orders["node"],
            "slots": self._slots,
        }
        transport.write(frames.json_frame(frames.HELLO, hello))
        self.loop.call_later(PING_SECONDS, self._tick)

    def _tick(self) -> None:
        if time.monotonic() - self._seen > SILENT_SECONDS and self._transport is not None:
            self._transport.abort()
        if self._number:
            # A PING is not allowed before the WELCOME.
            self._write(frames.frame(frames.PING))
        self.loop.call_later(PING_SECONDS, self._tick)

    def connection_lost(self, error: Optional[Exception]) -> None:
        self._handler.ended(self._orderly)

    def data_received(self, data: bytes) -> None:
        self._seen = time.monotonic()
        try:
            self._splitter.feed(data, self._receive)
        except frames.ProtocolError:
            if self._transport is not None:
                self._transport.abort()

    def _receive(self, type_: int, flags: int, route: int, call: int, data: bytes) -> None:
        if type_ == frames.RUN:
            ident, body = data[frames.IDENT_OFFSET : frames.HEADER_BYTES], data[frames.HEADER_BYTES :]
            whole = self._assembler.add(flags, call, data, self._max_body)
            if whole is not None:
                self._handler.run(call, ident, body if len(whole) == len(data) else _joined(whole))
        elif type_ == frames.CANCEL:
            self._handler.cancel(call, frames.body_json(data)["graceMillis"] / 1000)
        elif type_ == frames.CREDIT:
            more_frames, more_bytes = frames.read_credit(data)
            self._credit_frames += more_frames
            self._credit_bytes += more_bytes
            self._flush()
        elif type_ == frames.PING:
            self._write(frames.frame(frames.PONG))
        elif type_ == frames.CHALLENGE:
            self._prove(frames.body_json(data))
        elif type_ == frames.WELCOME:
            welcome = frames.body_json(data)
            self._number = welcome["number"]
            self._credit_frames, self._credit_bytes = welcome["credit"]["frames"], welcome["credit"]["bytes"]
        elif type_ == frames.BYE:
            self._orderly = True
            self._handler.ended(True)

    def _prove(self, challenge: Dict[str, Any]) -> None:
        token = self._orders["token"]
        if not auth.matches(auth.proof(token, "gateway", self._nonce, challenge["nonce"]), challenge.get("proof")):
            raise frames.ProtocolError("this is not the gateway that started the host")
        self._write(frames.json_frame(frames.PROOF, {"proof": auth.proof(token, "client", self._nonce, challenge["nonce"])}))


def _joined(whole: bytes) -> bytes:
    parts: "list[bytes]" = []
    frames.Splitter().feed(whole, lambda _type, _flags, _route, _call, data: parts.append(data[frames.HEADER_BYTES :]))
    return b"".join(parts)
