"""How many RUN and RESULT pairs a second the gateway forwards, and at what cost: `python load.py [pairs] [in flight]`.

The gateway runs in a process of its own, without Ray; an echo client is the host and another client the supervisor.
"""

import multiprocessing
import os
import pathlib
import struct
import sys
import time

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent.parent), str(pathlib.Path(__file__).resolve().parent)]

from support.client import Host, Supervisor, pack
from support.fake import FakeGateway, spec

HEAD = struct.Struct(">IBBHIQ")
BODY = b'{"task":"Echo","attempt":1,"queue":"default","suspect":false}\n{"n":12345,"text":"hello"}'


def gateway(pipe):
    with FakeGateway() as fake:
        pipe.send((fake.address, fake.secret))
        order = fake.order()
        pipe.send(order.orders)
        while pipe.recv() == "usage":
            usage = os.times()
            pipe.send(usage.user + usage.system)


def frames_of(buffer):
    """Cuts a buffer; answers the headers with their ends, and what is left."""
    at, end, out = 0, len(buffer), []
    while end - at >= 44:
        length, _, type_, _, _, call = HEAD.unpack_from(buffer, at)
        if at + 44 + length > end:
            break
        out.append((type_, call, at, at + 44 + length))
        at += 44 + length
    return out, buffer[at:]


def echo(address, orders, slots):
    host = Host(address, orders, slots)
    route = struct.pack(">I", host.number)
    for run in host.inbox:
        host.answer(run)
    rest = host.buffer
    while True:
        out = []
        found, left = frames_of(rest)
        for type_, _, at, end in found:
            if type_ == 10:
                out.append(rest[at : at + 5] + b"\x0c\0\0" + route + rest[at + 12 : end])
            elif type_ == 18:
                out.append(pack("PONG"))
        rest = left
        if out:
            host.socket.sendall(b"".join(out))
        data = host.socket.recv(1 << 18)
        if not data:
            return
        rest = rest + data if rest else data


def main(pairs=200_000, in_flight=500):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=gateway, args=(theirs,), daemon=True)
    process.start()
    address, secret = ours.recv()
    supervisor = Supervisor(address, secret)
    pool = supervisor.open(spec(placement={"concurrency": in_flight}))
    first = supervisor.run(pool, BODY)
    host = context.Process(target=echo, args=(address, ours.recv(), in_flight), daemon=True)
    host.start()
    supervisor.result(first)
    ours.send("usage")
    cpu = ours.recv()
    head, ident = HEAD, b"\1" * 24
    number = supervisor.number << 48 | 1000
    sent, done, rest = 0, 0, b""
    begin = time.perf_counter()
    window = in_flight
    supervisor.socket.settimeout(None)
    while done < pairs:
        if window and sent < pairs:
            batch = min(window, pairs - sent)
            supervisor.socket.sendall(
                b"".join([head.pack(len(BODY), 1, 10, 0, pool, number + i) + ident + BODY for i in range(sent, sent + batch)])
            )
            sent += batch
            window -= batch
        data = supervisor.socket.recv(1 << 18)
        rest = rest + data if rest else data
        found, rest = frames_of(rest)
        acks = [call for type_, call, _, _ in found if type_ == 12]
        if acks:
            done += len(acks)
            window += len(acks)
            supervisor.send("ACK", struct.pack(f">{len(acks)}Q", *acks))
    seconds = time.perf_counter() - begin
    ours.send("usage")
    used = ours.recv() - cpu
    ours.send("end")
    supervisor.close()
    process.join()
    host.join()
    print(
        f"{pairs / seconds:,.0f} RUN/RESULT pairs/s with {in_flight} in flight; the gateway used {used / pairs * 1e6:.1f} µs"
        f" of CPU a pair ({used / seconds:.0%} of a core), so {pairs / used:,.0f} pairs/s a core"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
