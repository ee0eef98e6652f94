"""Clients of the gateway in plain blocking sockets, independent of the gateway's own connection code."""

import hashlib
import hmac
import json
import socket
import struct
import time
import uuid

HEAD = struct.Struct(">IBBHIQ16sQ")
NAMES = {
    "HELLO": 1, "CHALLENGE": 2, "PROOF": 3, "WELCOME": 4, "REFUSED": 5, "RUN": 10, "STARTED": 11, "RESULT": 12, "ACK": 13,
    "CANCEL": 14, "LOST": 15, "CREDIT": 17, "PING": 18, "PONG": 19, "POOL": 20, "POOL_STATE": 21, "HOST_UP": 22,
    "HOST_DOWN": 23, "DRAIN": 24, "BYE": 25,
}
TYPES = {number: name for name, number in NAMES.items()}
CHUNK = 262_144
#: How long anything is waited for, in seconds: for a machine that is busy with other things.
PATIENCE = 60.0


class Closed(Exception):
    """The gateway closed the connection."""


class Frame:
    """A frame that was received."""

    def __init__(self, header, body):
        _, self.version, type_, self.flags, self.route, self.call, self.execution, self.fence = HEAD.unpack(header)
        self.type = TYPES[type_]
        self.body = body

    @property
    def kind(self):
        return self.flags >> 8 & 15

    @property
    def json(self):
        # Behind a declared error of Python stands what is told of it if it does not fit.
        return json.loads(self.body.partition(b"\n")[0])

    def __repr__(self):
        return f"{self.type}(call={self.call}, route={self.route}, flags={self.flags}, {self.body[:300]!r})"


def pack(type_, body=b"", flags=0, route=0, call=0, execution=b"\0" * 16, fence=0, version=1):
    """The bytes of one frame."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    return HEAD.pack(len(body), version, NAMES[type_], flags, route, call, execution, fence) + body


def pack_all(type_, body, flags=0, **header):
    """The bytes of a body of any size, in chunks."""
    parts = [body[at : at + CHUNK] for at in range(0, len(body), CHUNK)] or [b""]
    return b"".join(pack(type_, part, flags | (part is not parts[-1]), **header) for part in parts)


def proof(key, label, client_nonce, gateway_nonce):
    message = f"{label}|{client_nonce}|{gateway_nonce}".encode()
    return hmac.new(bytes.fromhex(key), message, hashlib.sha256).hexdigest()


class Client:
    """A connection that reads when it is asked to. Pings are answered while it reads."""

    def __init__(self, address, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.inbox = []
        self.welcome = None

    def send(self, type_, *args, **kwargs):
        self.socket.sendall(pack(type_, *args, **kwargs))

    def _fill(self, seconds):
        self.socket.settimeout(max(seconds, 0.001))
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            raise Closed()
        self.buffer += data
        while len(self.buffer) >= 44 and len(self.buffer) >= 44 + struct.unpack_from(">I", self.buffer)[0]:
            end = 44 + struct.unpack_from(">I", self.buffer)[0]
            frame = Frame(self.buffer[:44], self.buffer[44:end])
            self.buffer = self.buffer[end:]
            if frame.type == "PING":
                self.send("PONG")
            else:
                self.inbox.append(frame)

    def next(self, wanted, seconds=PATIENCE):
        """The first frame of a type (or for which a function answers true); others stay for later."""
        matches = wanted if callable(wanted) else lambda frame: frame.type == wanted
        deadline = time.monotonic() + seconds
        while True:
            for index, frame in enumerate(self.inbox):
                if matches(frame):
                    return self.inbox.pop(index)
            if time.monotonic() > deadline:
                raise AssertionError(f"no {wanted} within {seconds} s, only {self.inbox}")
            try:
                self._fill(deadline - time.monotonic())
            except TimeoutError:
                pass

    def settle(self):
        """Everything that the gateway had to send and to start by now is done: a PONG comes back, twice.

        What one read causes in later turns of the gateway's loop is done before it reads again.
        """
        for _ in range(2):
            self.send("PING")
            self.next("PONG")

    def closed(self, seconds=PATIENCE):
        """Reads until the gateway closes."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self._fill(deadline - time.monotonic())
            except Closed:
                return True
            except TimeoutError:
                pass
        return False

    def shake(self, key, role, id_, **hello):
        """The handshake; answers WELCOME or REFUSED."""
        nonce = uuid.uuid4().hex
        self.send("HELLO", {"role": role, "id": id_, "protocols": [1], "nonce": nonce, "maxBodyBytes": 1 << 20, **hello})
        challenge = self.next(lambda frame: frame.type in ("CHALLENGE", "REFUSED"))
        if challenge.type == "REFUSED":
            return challenge
        if role == "supervisor":
            assert challenge.json["proof"] == proof(key, "gateway", nonce, challenge.json["nonce"])
        self.send("PROOF", {"proof": proof(key, "client", nonce, challenge.json["nonce"])})
        answer = self.next(lambda frame: frame.type in ("WELCOME", "REFUSED"))
        if answer.type == "WELCOME":
            self.welcome = answer.json
        return answer

    def close(self):
        self.socket.close()


class Supervisor(Client):
    """A supervisor of the test."""

    def __init__(self, address, secret, id_=None, lease=30, **options):
        super().__init__(address, **options)
        self.id = id_ or uuid.uuid4().hex
        assert self.shake(secret, "supervisor", self.id, leaseSeconds=lease).type == "WELCOME"
        self.number = self.welcome["number"]
        self.calls = 0
        self.sent = {}

    def open(self, spec, state=None):
        """Opens a pool; answers its number, once it is in the state if one is given."""
        ref = spec["ref"]
        self.send("POOL", spec)
        wanted = lambda frame: frame.type == "POOL_STATE" and frame.json["ref"] == ref
        first = self.next(wanted)
        while state is not None and first.json["state"] != state:
            first = self.next(wanted)
        return first.json["pool"]

    def run(self, pool, body, flags=0, fence=1, priority=5):
        """Sends a RUN; answers the call."""
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        flags |= priority << 4
        self.calls += 1
        call = self.number << 48 | self.calls
        data = pack_all("RUN", body, flags, route=pool, call=call, execution=uuid.UUID(int=call).bytes, fence=fence)
        self.sent[call] = data
        self.socket.sendall(data)
        return call

    def again(self, call):
        self.socket.sendall(self.sent[call])

    def result(self, call, seconds=PATIENCE):
        """The RESULT or LOST of a call, its chunks joined."""
        body = b""
        while True:
            frame = self.next(lambda frame: frame.call == call and frame.type in ("RESULT", "LOST"), seconds)
            body += frame.body
            if not frame.flags & 1:
                frame.body = body
                return frame

    def started(self, call, seconds=PATIENCE):
        return self.next(lambda frame: frame.call == call and frame.type == "STARTED", seconds)

    def ack(self, *calls):
        self.send("ACK", struct.pack(f">{len(calls)}Q", *calls))

    def cancel(self, call, grace_millis=5000):
        header = HEAD.unpack_from(self.sent[call]) if call in self.sent else (0,) * 8
        self.send("CANCEL", {"graceMillis": grace_millis}, call=call, execution=header[6] or bytes(16), fence=header[7])


class Host(Client):
    """A host of the test, for a gateway whose cluster is the test's."""

    def __init__(self, address, orders, slots=1, pid=0):
        super().__init__(address)
        self.name = orders["hostId"]
        answer = self.shake(orders["token"], "host", self.name, pid=pid, node="test", slots=slots)
        assert answer.type == "WELCOME", answer
        self.number = self.welcome["number"]

    def run(self, seconds=PATIENCE):
        """The next RUN."""
        return self.next("RUN", seconds)

    def answer(self, run, body=b"null", kind=0, type_="RESULT"):
        data = pack_all(type_, body, kind << 8, route=self.number, call=run.call, execution=run.execution, fence=run.fence)
        self.socket.sendall(data)
