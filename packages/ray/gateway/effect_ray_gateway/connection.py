"""A TCP connection: it reads frames, writes frames in batches, and does the handshake and the heartbeat.

After the handshake every frame goes to the connection's `Peer`.
"""

import asyncio
import time
from typing import Any, Callable, Dict, List, Optional, Protocol, Set

from . import auth, frames
from .log import log

#: How long the handshake may take.
HANDSHAKE_SECONDS = 10
#: How long a closing connection may take to send its remaining bytes.
CLOSE_SECONDS = 5
#: How many bytes the body of a HELLO or PROOF may have. The client has not proved anything yet.
MAX_HANDSHAKE_BODY_BYTES = 4096
#: How many frames of one connection are handled before other connections get their turn. A turn costs as much as
#: several frames, and calls that arrive together leave together.
TURN_FRAMES = 1024
#: How many of these may be frames that need no credit, which the client can send without limit.
TURN_FREE_FRAMES = 16
#: How many frames are handled before checking whether the turn is over.
LOOK_FRAMES = 16
#: How many unsent bytes make a peer count as slow, so that its sources are held back, and how many end that.
WRITE_HIGH_BYTES = 4 * 1024 * 1024
WRITE_LOW_BYTES = 1024 * 1024


class Peer(Protocol):
    """The supervisor or host that a connection belongs to after the handshake."""

    def receive(self, type_: int, flags: int, route: int, call: int, data: bytes) -> None: ...
    def disconnected(self, connection: "Connection", reason: str) -> None: ...
    def slow(self, connection: "Connection", is_slow: bool) -> None: ...


class Admission(Protocol):
    """Decides which clients are accepted. Implemented by the gateway."""

    instance: str
    connections: Set["Connection"]
    max_connections: int

    def key_of(self, hello: Dict[str, Any]) -> str:
        """Returns the key that this client must know. Raises `ProtocolError` if the HELLO is refused."""

    def admit(self, connection: "Connection", hello: Dict[str, Any]) -> Peer:
        """Called when the client has proved that it knows the key. Sends WELCOME."""


class Connection(asyncio.Protocol):
    """A connection of a client of the gateway."""

    #: While frames are handled: the connections that have something to send because of them.
    _touched: Optional[List["Connection"]] = None

    def __init__(self, gateway: Admission) -> None:
        self._gateway = gateway
        self._loop = asyncio.get_running_loop()
        self._transport: Optional[asyncio.Transport] = None
        self._splitter = frames.Splitter()
        #: Whether it was ended because it was silent for too long.
        self.was_silent = False
        self._handle: Callable[[int, int, int, int, bytes], None] = self._first
        self._max_body = MAX_HANDSHAKE_BODY_BYTES
        self._out: List[bytes] = []
        self._out_bytes = 0
        self._flushing = False
        self._hello: Optional[Dict[str, Any]] = None
        self._proof = ""
        self._handshake_timer: Optional[asyncio.TimerHandle] = None
        self._reason = "the client closed the connection"
        self.reading = True
        #: How many frames of this turn need no credit.
        self._free_frames = 0
        #: Whether frames that have been read wait for this connection's next turn. Nothing more is read until then.
        self._behind = False
        self._seen = time.monotonic()
        self._pinged = self._seen
        self.peer: Optional[Peer] = None
        self.closed = False
        self.slow = False
        self._owes_pong = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(WRITE_HIGH_BYTES, WRITE_LOW_BYTES)
        if len(self._gateway.connections) >= self._gateway.max_connections:
            log("warning", "there are too many connections", connections=len(self._gateway.connections))
            return self.abort("there are too many connections")
        self._gateway.connections.add(self)
        self._handshake_timer = self._loop.call_later(HANDSHAKE_SECONDS, self.abort, "no handshake in time")

    def connection_lost(self, error: Optional[Exception]) -> None:
        while self._behind and not self.closed:
            # Bytes that the peer sent before are still handled.
            self.data_received(b"")
        self.closed = True
        if self._handshake_timer is not None:
            self._handshake_timer.cancel()
        self._gateway.connections.discard(self)
        self._out.clear()
        if self.peer is not None:
            self.peer.disconnected(self, str(error) if error else self._reason)

    def data_received(self, data: bytes) -> None:
        """Handles frames until there are none left or the turn is over. In the second case it is called again, without
        data.
        """
        self._seen = time.monotonic()
        self._free_frames = 0
        left = TURN_FRAMES - LOOK_FRAMES
        more = False
        # Sends the effects of these frames before reading anything else: another turn of the loop would cost a large
        # part of a call.
        touched = Connection._touched = []
        try:
            more = self._splitter.feed(data, self._handle, self._max_body, LOOK_FRAMES)
            while more and left > 0 and self._free_frames < TURN_FREE_FRAMES:
                left -= LOOK_FRAMES
                more = self._splitter.feed(b"", self._handle, self._max_body, LOOK_FRAMES)
        except frames.ProtocolError as error:
            self.refuse(str(error), error.code)
        except Exception as error:
            # Any error only ends this connection.
            log("error", "a frame could not be handled", error=f"{type(error).__name__}: {error}")
            self.refuse("a frame could not be handled")
        finally:
            Connection._touched = None
            for connection in touched:
                connection._flush()
        if more or self._behind:
            self._go_on(more)

    def _go_on(self, more: bool) -> None:
        """Takes another turn if there are more frames, and reads again if there are not."""
        if self.closed:
            return
        if more:
            self._loop.call_soon(self._next_turn)
        if more != self._behind:
            self._behind = more
            self._read_or_not()

    def _next_turn(self) -> None:
        if not self.closed:
            self.data_received(b"")

    def _receive(self, type_: int, flags: int, route: int, call: int, data: bytes) -> None:
        if type_ > frames.RESULT:
            self._free_frames += 1
            if type_ >= frames.CREDIT and type_ <= frames.PONG:
                if type_ == frames.PING:
                    self._pong()
                return
        if not self.closed and self.peer is not None:
            self.peer.receive(type_, flags, route, call, data)

    def _first(self, type_: int, flags: int, route: int, call: int, data: bytes) -> None:
        if self.closed:
            return
        if self.peer is not None:
            return self._receive(type_, flags, route, call, data)
        if type_ == frames.HELLO and self._hello is None:
            self._challenge(frames.body_json(data))
        elif type_ == frames.PROOF and self._hello is not None:
            self._prove(frames.body_json(data))
        else:
            raise frames.ProtocolError(f"frame {type_} is not part of the handshake")

    def _challenge(self, hello: Dict[str, Any]) -> None:
        protocols, nonce = hello.get("protocols"), hello.get("nonce")
        if not isinstance(protocols, list) or frames.PROTOCOL not in protocols:
            raise frames.ProtocolError(f"protocol {frames.PROTOCOL} is the only supported one")
        if not isinstance(nonce, str) or len(nonce) != 2 * auth.NONCE_BYTES:
            raise frames.ProtocolError("the nonce is not 16 bytes in hex")
        key, own = self._gateway.key_of(hello), auth.nonce()
        self._proof = auth.proof(key, "client", nonce, own)
        self._hello = hello
        self.send(
            frames.json_frame(
                frames.CHALLENGE,
                {
                    "nonce": own,
                    "proof": auth.proof(key, "gateway", nonce, own),
                    "protocol": frames.PROTOCOL,
                    "instance": self._gateway.instance,
                },
            )
        )

    def _prove(self, body: Dict[str, Any]) -> None:
        assert self._hello is not None
        if not auth.matches(self._proof, body.get("proof")):
            raise frames.ProtocolError("the proof is wrong")
        assert self._handshake_timer is not None
        self._handshake_timer.cancel()
        self.peer = self._gateway.admit(self, self._hello)
        self._handle, self._max_body = self._receive, frames.MAX_FRAME_BODY_BYTES

    def send(self, data: bytes) -> None:
        """Queues bytes. Everything that one read or one turn of the loop causes is sent in one write."""
        self._out.append(data)
        self._out_bytes += len(data)
        if not self._flushing:
            self._flushing = True
            if Connection._touched is not None:
                Connection._touched.append(self)
            else:
                self._loop.call_soon(self._flush)

    def flush_large(self) -> None:
        """Sends the queue if it is large, so that the peer counts as slow before more is queued."""
        if self._out_bytes > WRITE_LOW_BYTES:
            self._flush()

    def _flush(self) -> None:
        self._flushing = False
        out, self._out, self._out_bytes = self._out, [], 0
        if out and not self.closed and self._transport is not None:
            self._transport.write(out[0] if len(out) == 1 else b"".join(out))

    def _pong(self) -> None:
        # A slow peer gets one PONG for all its PINGs.
        self._owes_pong = self.slow
        if not self.slow:
            self.send(frames.frame(frames.PONG))

    def pause_writing(self) -> None:
        self.slow = True
        if self.peer is not None:
            self.peer.slow(self, True)

    def resume_writing(self) -> None:
        self.slow = False
        if self._owes_pong:
            self._pong()
        if self.peer is not None:
            self.peer.slow(self, False)

    def read(self, wanted: bool) -> None:
        """Starts or stops reading. A connection that is not being read does not count as silent."""
        if wanted == self.reading or self.closed or self._transport is None:
            return
        self.reading = wanted
        self._seen = time.monotonic()
        self._read_or_not()

    def _read_or_not(self) -> None:
        if self.closed or self._transport is None:
            return
        if self.reading and not self._behind:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def tick(self, now: float, ping_seconds: float, silent_seconds: float) -> None:
        """Sends a PING when it is due, and ends the connection if it has been silent for too long."""
        if self.peer is None or self.closed:
            return
        if self.reading and now - self._seen >= silent_seconds:
            self.was_silent = True
            self.abort(f"silent for {silent_seconds:g} s")
        elif now - self._pinged >= ping_seconds:
            self._pinged = now
            self.send(frames.frame(frames.PING))

    def refuse(self, reason: str, code: str = frames.ProtocolError.code) -> None:
        """Sends the reason, then closes."""
        self.send(frames.json_frame(frames.REFUSED, {"code": code, "reason": reason}))
        self.close(reason)

    def close(self, reason: str) -> None:
        """Sends the queue, then closes. Nothing more is read."""
        if self.closed:
            return
        self._flush()
        self.closed = True
        self._reason = reason
        if self._transport is not None:
            self._transport.close()
            self._loop.call_later(CLOSE_SECONDS, self._transport.abort)

    def abort(self, reason: str) -> None:
        """Closes at once."""
        if self._transport is not None and not self._transport.is_closing():
            self._reason = reason
            self.closed = True
            self._transport.abort()
