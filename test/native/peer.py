"""Another process, with descriptors to hand over: does what its input says, line by line.

Listens on the Unix socket of its first argument (`@`: an abstract name), of the type of its second.
Each line is an expression; what it gives is printed as JSON.
"""

import array
import json
import os
import select
import socket
import sys

name, kind = sys.argv[1:]
TYPES = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET}
listener = socket.socket(socket.AF_UNIX, TYPES[kind])
listener.bind("\0" + name[1:] if name.startswith("@") else name)
listener.listen(8)
kept = None
connection = None


def accept():
    global connection
    connection, _ = listener.accept()


def send(data, fds):
    """One message with these descriptors."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    connection.sendmsg([bytes.fromhex(data)], rights)


def pair():
    """Sends one end of a pair of sockets that keep messages apart, and keeps the other."""
    global kept
    kept, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    send("00", [other.fileno()])
    other.close()


def pipe(end, blocking=True):
    """Sends one end (0: to read from) of a pipe, and keeps the other."""
    global kept
    ends = os.pipe()
    os.set_blocking(ends[end], blocking)
    send("00", [ends[end]])
    os.close(ends[end])
    kept = os.fdopen(ends[1 - end], "wb" if end == 0 else "rb", buffering=0)


def put(data):
    os.write(kept.fileno(), bytes.fromhex(data))


def got(count):
    """As many messages as that."""
    return [os.read(kept.fileno(), 1 << 20).hex() for _ in range(count)]


def idle():
    """Whether there is nothing more to get."""
    return not select.select([kept], [], [], 0)[0]


def file(text):
    """A file without a name: its number here."""
    fd = os.memfd_create("kept")
    os.write(fd, text.encode())
    return fd


def status():
    return [os.getpid(), len(os.listdir("/proc/self/fd"))]


print(json.dumps(status()), flush=True)
for line in sys.stdin:
    print(json.dumps(eval(line)), flush=True)
