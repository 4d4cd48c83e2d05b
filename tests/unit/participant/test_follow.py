"""A connection that is followed past its handshake: what comes first, and when nothing does."""

import contextlib
import socket
import threading

import pytest

from netdiag.participant.verbs import run


@contextlib.contextmanager
def server(serve):
    """A listener whose first connection is given to ``serve``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def once():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    serve(connection)

        thread = threading.Thread(target=once, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5.0)


def follow(port, wait_ms=2000):
    params = {"address": "127.0.0.1", "port": port, "wait_ms": wait_ms}
    return run({"verb": "tcp-follow", "params": params, "timeout_s": 4.0})["data"]


def test_a_greeting_ends_the_wait():
    with server(lambda connection: connection.sendall(b"SSH-2.0-test\r\n" + bytes(500))) as port:
        found = follow(port)
    assert (found["connected"], found["closed"]) == (True, False)
    assert found["greeting"].startswith(b"SSH-2.0-test")
    assert len(found["greeting"]) == 256
    assert 0 <= found["first_byte_us"] < 1_000_000


def test_silence_is_waited_for_and_no_longer():
    with server(lambda connection: connection.recv(1)) as port:
        found = follow(port, wait_ms=100)
    assert (found["connected"], found["first_byte_us"], found["closed"]) == (True, None, False)


@pytest.mark.parametrize("reset", [False, True])
def test_one_that_closes_is_not_silent(reset):
    def serve(connection):
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with server(serve) as port:
        found = follow(port)
    # A reset may come before anybody has seen that the connection was open.
    assert (found["first_byte_us"], found["closed"] or (reset and not found["connected"])) == (None, True)


def test_a_port_on_which_nobody_listens():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        found = follow(free.getsockname()[1])
    assert (found["connected"], found["error"], found["first_byte_us"]) == (False, "Connection refused", None)
