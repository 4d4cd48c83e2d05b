"""A participant inside a lab host, reached as ssh would reach it: a Python of that host, fed through its input."""

import subprocess
import sys

from netdiag.carrier.payload import BOOTSTRAP, payload
from netdiag.carrier.stream import StreamCarrier
from netdiag.model.wire import Request


def carrier_into(host):
    """A carrier to a lab host; use it in a with statement."""
    argv = host.command([sys.executable, "-I", "-S", "-B", "-u", "-c", BOOTSTRAP])
    return carrier_of(host.name, argv, host.environment())


def carrier_of(name, argv, env=None):
    """A carrier to the Python that a command starts."""
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
    process.stdin.write(payload())
    process.stdin.flush()

    def end():
        process.stdout.close()
        process.wait(5)

    return StreamCarrier(name, process.stdout, process.stdin, greet_s=20.0, close=end)


def ask(carrier, verb, timeout_s=5.0, **params):
    """One request's data."""
    (answer,) = carrier.ask([Request(verb, params, timeout_s)])
    assert answer.error is None, answer.error
    return answer.data
