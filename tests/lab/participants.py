"""A participant inside a lab host, reached as ssh would reach it: a Python of that host, fed through its input."""

import contextlib
import socket
import subprocess
import sys

from netdiag.carrier.payload import BOOTSTRAP, READY, payload
from netdiag.carrier.stream import StreamCarrier
from netdiag.lab.host import end_group
from netdiag.lab.root import CHECKOUT
from netdiag.model.wire import Request


def carrier_into(host, *, root=True):
    """A carrier to a lab host; use it in a with statement."""
    nobody = [] if root else ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    python = sys.executable if root else "/usr/bin/python3"
    argv = host.command([*nobody, python, "-ISBuc", BOOTSTRAP, READY])
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=host.environment())

    def end():
        process.wait(5)
        process.stdout.close()

    return StreamCarrier(host.name, process.stdout, process.stdin, greet_s=20.0, close=end, program=payload())


def ask(carrier, verb, timeout_s=5.0, **params):
    """One request's data."""
    (answer,) = carrier.ask([Request(verb, params, timeout_s)])
    assert answer.error is None, answer.error
    return answer.data


FORGE = """
import ctypes, os, signal, socket, sys
sys.path.insert(0, sys.argv[1])
from netdiag.participant import stream, verbs
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[2])
server.listen(64)
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    if os.fork() == 0:
        server.close()
        name = connection.recv(64).decode()
        namespace = os.open("/run/netns/" + name, os.O_RDONLY)
        assert ctypes.CDLL(None).setns(namespace, 0x40000000) == 0
        os.close(namespace)
        stream.serve(stream.Pipes(connection.fileno(), connection.fileno()))
        os._exit(0)
    connection.close()
"""
"""Forks a participant into a network namespace for each connection: hundreds of interpreters would take minutes."""


@contextlib.contextmanager
def forge(host):
    """A function that gives a carrier into a network namespace of a lab host, by the namespace's name."""
    path = "/run/forge.sock"
    carriers = []
    with host.popen([sys.executable, "-S", "-B", "-c", FORGE, str(CHECKOUT), path]) as process:
        assert process.stdout.readline() == "ready\n"

        def carrier(name):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(host.path(path)))
            connection.sendall(name.encode())
            source, target = connection.makefile("rb"), connection.makefile("wb")

            def end():
                # The reader waits inside ``source``: only this wakes it.
                connection.shutdown(socket.SHUT_RDWR)
                connection.close()

            carriers.append(StreamCarrier(name, source, target, greet_s=20.0, close=end))
            return carriers[-1]

        yield carrier
        for each in carriers:
            each.close()
        end_group(process)
    host.path(path).unlink()
