"""The frames of protocol 1: a fixed header of 44 bytes, then a body that the gateway forwards without reading it.

The gateway and the Python host share this module.
"""

import json
import struct
import sys
from typing import Any, Dict, List, Optional, Tuple

PROTOCOL = 1

HEADER_BYTES = 44
#: How many bytes one frame's body may have. Larger bodies travel in chunks.
MAX_FRAME_BODY_BYTES = 256 * 1024
#: How many bytes a RUN or RESULT body may have in addition to the value that the pool's limits apply to.
ENVELOPE_BYTES = 64 * 1024

HELLO, CHALLENGE, PROOF, WELCOME, REFUSED = 1, 2, 3, 4, 5
RUN, STARTED, RESULT, ACK, CANCEL, LOST = 10, 11, 12, 13, 14, 15
CREDIT, PING, PONG = 17, 18, 19
POOL, POOL_STATE, HOST_UP, HOST_DOWN, DRAIN, BYE = 20, 21, 22, 23, 24, 25

#: Another chunk of the same body follows.
MORE = 1
#: On RUN: the call must have a host to itself.
ALONE = 2
#: On RUN: the bits of the priority, 0 to 9.
PRIORITY_SHIFT, PRIORITY_MASK = 4, 15

SUCCESS, FAILURE, DIED, INTERRUPTED = 0, 1, 2, 3
KIND_SHIFT = 8

#: Length, version, type, flags, route and call: the fields that the gateway reads.
HEAD = struct.Struct(">IBBHIQ")
#: Execution and fence: the fields that it only copies.
IDENT = struct.Struct(">16sQ")
IDENT_OFFSET = HEAD.size
NO_IDENT = bytes(IDENT.size)
_CREDIT = struct.Struct(">II")


class ProtocolError(Exception):
    """The peer sent something that protocol 1 does not allow. Its connection ends."""

    #: The `code` of the REFUSED frame that ends the connection.
    code = "refused"


class Stopping(ProtocolError):
    """The gateway is ending: the next one may accept the peer."""

    code = "stopping"


def frame(type_: int, body: bytes = b"", flags: int = 0, route: int = 0, call: int = 0, ident: bytes = NO_IDENT) -> bytes:
    """Returns one frame. `ident` is the 24 bytes of execution and fence from the header."""
    return HEAD.pack(len(body), PROTOCOL, type_, flags, route, call) + ident + body


def json_frame(type_: int, value: Any, route: int = 0, call: int = 0, ident: bytes = NO_IDENT) -> bytes:
    """Returns one frame with a JSON body."""
    return frame(type_, json.dumps(value, separators=(",", ":")).encode(), 0, route, call, ident)


def chunked(type_: int, body: bytes, flags: int, route: int, call: int, ident: bytes) -> List[bytes]:
    """Returns a body of any size as one or more frames, with `MORE` on all but the last."""
    if len(body) <= MAX_FRAME_BODY_BYTES:
        return [frame(type_, body, flags, route, call, ident)]
    parts = [body[at : at + MAX_FRAME_BODY_BYTES] for at in range(0, len(body), MAX_FRAME_BODY_BYTES)]
    last = len(parts) - 1
    return [frame(type_, part, flags | (MORE if at < last else 0), route, call, ident) for at, part in enumerate(parts)]


def body_json(data: bytes) -> Dict[str, Any]:
    """Returns the JSON object in the body of a whole frame. Raises `ProtocolError` if it is not one."""
    try:
        value = json.loads(data[HEADER_BYTES:])
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ProtocolError("a body is not a JSON object")
    return value


def credit_frame(frames: int, size: int) -> bytes:
    """Returns a CREDIT frame for this many more frames and bytes."""
    return frame(CREDIT, _CREDIT.pack(frames, size))


def read_credit(data: bytes) -> Tuple[int, int]:
    """Returns the frames and bytes that a CREDIT frame grants."""
    if len(data) != HEADER_BYTES + _CREDIT.size:
        raise ProtocolError("a CREDIT frame has 8 bytes of body")
    return _CREDIT.unpack_from(data, HEADER_BYTES)


def ack_frame(calls: List[int]) -> bytes:
    """Returns an ACK frame for these calls; at most 32,768 fit into one."""
    return frame(ACK, struct.pack(f">{len(calls)}Q", *calls))


def read_ack(data: bytes) -> Tuple[int, ...]:
    """Returns the calls that an ACK frame acknowledges."""
    count, rest = divmod(len(data) - HEADER_BYTES, 8)
    if rest:
        raise ProtocolError("an ACK frame is packed u64s")
    return struct.unpack_from(f">{count}Q", data, HEADER_BYTES)


class Assembler:
    """Collects the chunks of RUN or RESULT bodies by call, as whole frames."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: Dict[int, Tuple[List[bytes], int]] = {}

    def add(self, flags: int, call: int, data: bytes, max_bytes: int) -> Optional[bytes]:
        """Adds a frame. Returns all frames of the call's body once the last one is here. Raises `ProtocolError` over
        `max_bytes`.
        """
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
    """Splits the bytes of a stream into frames."""

    __slots__ = ("_at", "_data")

    def __init__(self) -> None:
        self._data = b""
        self._at = 0

    def feed(self, data: bytes, handle: Any, max_body: int = MAX_FRAME_BODY_BYTES, most: int = sys.maxsize) -> bool:
        """Adds bytes and calls `handle(type, flags, route, call, frame)` for whole frames, at most `most` times.

        Returns whether there may be more frames, which the next call handles. Raises `ProtocolError`.
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
                raise ProtocolError(f"protocol version {version} is not supported")
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
