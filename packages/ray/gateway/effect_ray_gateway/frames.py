"""The frames of protocol 1: a fixed header of 44 bytes, then a body that the gateway forwards unread.

Everything here is shared by the gateway and by the Python host.
"""

import json
import struct
import sys
from typing import Any, Dict, List, Optional, Tuple

PROTOCOL = 1

HEADER_BYTES = 44
#: The most bytes one frame's body may have; larger bodies travel in chunks.
MAX_FRAME_BODY_BYTES = 256 * 1024
#: What a RUN or RESULT body may have around the value whose size the pool's limits bound.
ENVELOPE_BYTES = 64 * 1024

HELLO, CHALLENGE, PROOF, WELCOME, REFUSED = 1, 2, 3, 4, 5
RUN, STARTED, RESULT, ACK, CANCEL, LOST = 10, 11, 12, 13, 14, 15
CREDIT, PING, PONG = 17, 18, 19
POOL, POOL_STATE, HOST_UP, HOST_DOWN, DRAIN, BYE = 20, 21, 22, 23, 24, 25

#: Another chunk of the same body follows.
MORE = 1
#: On RUN: the call wants a host that runs nothing else meanwhile.
ALONE = 2
#: On RUN: the bits of its priority, 0 to 9.
PRIORITY_SHIFT, PRIORITY_MASK = 4, 15

SUCCESS, FAILURE, DIED, INTERRUPTED = 0, 1, 2, 3
KIND_SHIFT = 8

#: length, version, type, flags, route, call: what the gateway looks at.
HEAD = struct.Struct(">IBBHIQ")
#: execution and fence: what it only repeats.
IDENT = struct.Struct(">16sQ")
IDENT_OFFSET = HEAD.size
NO_IDENT = bytes(IDENT.size)
_CREDIT = struct.Struct(">II")


class ProtocolError(Exception):
    """The peer sent something that protocol 1 does not know; its connection ends."""

    #: The `code` of the REFUSED that ends it.
    code = "refused"


class Stopping(ProtocolError):
    """The gateway is on its way out: the next one may take the peer."""

    code = "stopping"


def frame(type_: int, body: bytes = b"", flags: int = 0, route: int = 0, call: int = 0, ident: bytes = NO_IDENT) -> bytes:
    """One frame. `ident` is the 24 bytes of execution and fence as they stand in the header."""
    return HEAD.pack(len(body), PROTOCOL, type_, flags, route, call) + ident + body


def json_frame(type_: int, value: Any, route: int = 0, call: int = 0, ident: bytes = NO_IDENT) -> bytes:
    """One frame with a JSON body."""
    return frame(type_, json.dumps(value, separators=(",", ":")).encode(), 0, route, call, ident)


def chunked(type_: int, body: bytes, flags: int, route: int, call: int, ident: bytes) -> List[bytes]:
    """A body of any size as one or more frames, `MORE` on all but the last."""
    if len(body) <= MAX_FRAME_BODY_BYTES:
        return [frame(type_, body, flags, route, call, ident)]
    parts = [body[at : at + MAX_FRAME_BODY_BYTES] for at in range(0, len(body), MAX_FRAME_BODY_BYTES)]
    last = len(parts) - 1
    return [frame(type_, part, flags | (MORE if at < last else 0), route, call, ident) for at, part in enumerate(parts)]


def body_json(data: bytes) -> Dict[str, Any]:
    """The JSON object in a whole frame's body."""
    try:
        value = json.loads(data[HEADER_BYTES:])
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ProtocolError("a body is not a JSON object")
    return value


def credit_frame(frames: int, size: int) -> bytes:
    """CREDIT for so many more frames and bytes."""
    return frame(CREDIT, _CREDIT.pack(frames, size))


def read_credit(data: bytes) -> Tuple[int, int]:
    """The frames and bytes that a CREDIT frame grants."""
    if len(data) != HEADER_BYTES + _CREDIT.size:
        raise ProtocolError("a CREDIT frame has 8 bytes of body")
    return _CREDIT.unpack_from(data, HEADER_BYTES)


def ack_frame(calls: List[int]) -> bytes:
    """ACK for these calls; at most 32,768 fit in one frame."""
    return frame(ACK, struct.pack(f">{len(calls)}Q", *calls))


def read_ack(data: bytes) -> Tuple[int, ...]:
    """The calls that an ACK frame settles."""
    count, rest = divmod(len(data) - HEADER_BYTES, 8)
    if rest:
        raise ProtocolError("an ACK frame is packed u64s")
    return struct.unpack_from(f">{count}Q", data, HEADER_BYTES)


class Assembler:
    """Collects the chunks of RUN or RESULT bodies by call, as the frames they came in."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: Dict[int, Tuple[List[bytes], int]] = {}

    def add(self, flags: int, call: int, data: bytes, max_bytes: int) -> Optional[bytes]:
        """All frames of the call's body once the last one is here. Fails with `ProtocolError` over `max_bytes`."""
        chunks, size = self._parts.pop(call, ([], 0))
        size += len(data) - HEADER_BYTES
        if size > max_bytes:
            raise ProtocolError(f"a body has more than {max_bytes} bytes")
        chunks.append(data)
        if flags & MORE:
            self._parts[call] = (chunks, size)
            return None
        return b"".join(chunks)

    def holds(self, call: int) -> bool:
        """Whether earlier chunks of this call are waiting."""
        return call in self._parts


class Splitter:
    """Cuts the bytes of a stream into frames."""

    __slots__ = ("_at", "_data")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def feed(self, data: bytes, handle: Any, max_body: int = MAX_FRAME_BODY_BYTES, most: int = sys.maxsize) -> bool:
        """Adds what was read and calls `handle(type, flags, route, call, frame)` for whole frames, for so many at most.

        Whether there may be more of them: they are handled when it is called again. Fails with `ProtocolError`.
        """
        at = self._at
        if data:
            if at < len(self._data):
                data = self._data[at:] + data
            self._data, at = data, 0
        else:
            data = self._data
        end, unpack, more = len(data), HEAD.unpack_from, False
        for _ in range(most):
            if end - at < HEADER_BYTES:
                break
            length, version, type_, flags, route, call = unpack(data, at)
            if version != PROTOCOL:
                raise ProtocolError(f"version {version} is not spoken here")
            if length > max_body:
                raise ProtocolError(f"a frame has {length} bytes, the limit is {max_body}")
            after = at + HEADER_BYTES + length
            if after > end:
                break
            handle(type_, flags, route, call, data[at:after])
            at = after
        else:
            more = end - at >= HEADER_BYTES
        if at == end:
            self._data, at = b"", 0
        self._at = at
        return more
