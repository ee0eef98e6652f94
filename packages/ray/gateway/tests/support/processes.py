"""Looking at processes and sockets through /proc."""

import os
import pathlib


def alive(pid):
    """Whether the process exists and is not a zombie."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def having(variable):
    """The processes that were started with this text in their environment."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if variable.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def named(pids, text):
    """Those whose command line or title contains a text."""
    found = []
    for pid in pids:
        try:
            if text.encode() in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def listening(pids):
    """The addresses, in the kernel's hexadecimal, on which these processes listen."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == "0A":
                sockets[f"socket:[{columns[9]}]"] = columns[1]
    found = set()
    for pid in pids:
        try:
            for entry in os.scandir(f"/proc/{pid}/fd"):
                address = sockets.get(os.readlink(entry.path))
                if address:
                    found.add(address)
        except OSError:
            continue
    return found


def is_loopback(address):
    """Whether an address of `listening` is 127.0.0.0/8 or ::1 (the kernel writes words in its own byte order)."""
    host = address.rpartition(":")[0]
    if len(host) == 8:
        return bytes.fromhex(host)[3] == 127
    words = [bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, 32, 8)]
    plain = b"".join(words)
    return plain == bytes(15) + b"\1" or plain[:12] == bytes(10) + b"\xff\xff" and plain[12] == 127
