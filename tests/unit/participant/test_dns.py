"""Questions to a name server: a real one on the loopback address, that answers well, badly, or not at all."""

import contextlib
import os
import socket
import struct
import threading

import pytest

from netdiag.participant import run


def answer_to(query, *records, rcode=0, flags=0x8180):
    head = query[:2] + struct.pack(">5H", flags | rcode, 1, len(records), 0, 0)
    return head + query[12:] + b"".join(records)


def a_record(address, name=b"\xc0\x0c"):
    return name + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(address)


def alias(target):
    return b"\xc0\x0c" + struct.pack(">HHIH", 5, 1, 60, len(target)) + target


@contextlib.contextmanager
def server(reply, over_tcp=None):
    """A name server that gives ``reply(query)`` over UDP, and ``over_tcp(query)`` over TCP; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, socket.socket() as listener:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        listener.bind(("127.0.0.1", port))
        listener.listen()

        def udp():
            with contextlib.suppress(OSError):
                while True:
                    query, peer = sock.recvfrom(512)
                    if not query:
                        return
                    found = reply(query)
                    if found is not None:
                        sock.sendto(found, peer)

        def tcp():
            connection, _ = listener.accept()
            with connection:
                size = struct.unpack(">H", connection.recv(2))[0]
                found = over_tcp(connection.recv(size))
                connection.sendall(struct.pack(">H", len(found)) + found)

        threads = [threading.Thread(target=udp)] + ([threading.Thread(target=tcp)] if over_tcp else [])
        for thread in threads:
            thread.start()
        try:
            yield port
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"", ("127.0.0.1", port))
            for thread in threads:
                thread.join()


def ask(port, name="db", kind="A", timeout_s=1.0):
    params = {"server": "127.0.0.1", "port": port, "name": name, "type": kind}
    return run({"verb": "dns-query", "params": params, "timeout_s": timeout_s})


def test_an_answer_with_an_alias_before_it():
    with server(lambda query: answer_to(query, alias(b"\x03two\x00"), a_record("10.0.1.4"))) as port:
        assert ask(port)["data"] == {"rcode": 0, "addresses": ["10.0.1.4"], "tcp": False}


def test_no_such_name_is_an_answer():
    with server(lambda query: answer_to(query, rcode=3)) as port:
        assert ask(port)["data"] == {"rcode": 3, "addresses": [], "tcp": False}


def test_what_does_not_fit_is_asked_again_over_tcp():
    whole = [a_record(f"10.0.1.{number}") for number in range(1, 100)]
    with server(lambda query: answer_to(query, flags=0x8380), lambda query: answer_to(query, *whole)) as port:
        data = ask(port)["data"]
    assert data["tcp"]
    assert len(data["addresses"]) == 99


def test_an_answer_to_another_question_is_none():
    with server(lambda query: b"zz" + answer_to(query, a_record("10.0.1.66"))[2:]) as port:
        assert ask(port, timeout_s=0.3)["error"]["kind"] == "timeout"


@pytest.mark.parametrize("junk", [b"", b"\xc0" * 40, b"\x00" * 3])
def test_a_hostile_answer_is_an_error(junk):
    with server(lambda query: answer_to(query)[:6] + struct.pack(">3H", 9, 0, 0) + query[12:] + junk) as port:
        assert ask(port)["error"]["kind"] == "failed"


@pytest.mark.parametrize("name", ["", "a" * 64, "a..b", "schön"])
def test_what_is_no_name(name):
    assert ask(9, name)["error"]["kind"] == "unsupported"


def test_nobody_there():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    assert "error" in ask(port)


def test_the_resolver_s_files_of_a_process():
    data = run({"verb": "resolver-files", "params": {"pid": os.getpid()}})["data"]
    assert isinstance(data["resolv_conf"], str)
    assert "localhost" in data["hosts"]
    assert run({"verb": "resolver-files", "params": {"pid": 2**22 + 1}})["error"]["kind"] == "missing"
