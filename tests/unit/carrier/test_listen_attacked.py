"""`netdiag listen` under attack, on loopback with real sockets: nothing is served, nothing is told, it goes on."""

import contextlib
import io
import json
import socket
import ssl
import threading
import time

import pytest

from netdiag.carrier import listen
from netdiag.carrier.listener import MOST_WRONG, Listener, _certified
from netdiag.errors import CarrierError
from netdiag.lab.process import until
from netdiag.model.wire import Request
from netdiag.participant import sealed
from netdiag.participant.deadline import Deadline
from netdiag.participant.sealed import ASK, PROTOCOL, SERVE, Key

HOST = "127.0.0.1"
ATTACKER = "127.0.0.2"


class Host:
    """A host that runs `netdiag listen`, in a thread."""

    def __init__(self, role=SERVE, seconds=20.0, prove_s=8.0):
        self.said = []
        self.listener = Listener(HOST, 0, role, self.said.append, prove_s=prove_s)
        self.key = self.listener.key
        self.where = listen.Place(HOST, self.listener.port)
        self.served = None
        self.failed = None
        self._seconds = seconds
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            channel = self.listener.accept(self._seconds)
            self.served = listen.serve(channel, reach=(), seconds=self._seconds)
        except CarrierError as error:
            self.failed = str(error)

    def ended(self):
        self._thread.join(10)
        return not self._thread.is_alive()

    def heard(self, text):
        until(lambda: any(text in line for line in self.said), 10, f"a word of {text!r}")

    def raw(self, source=ATTACKER):
        return socket.create_connection((HOST, self.where.port), 5, source_address=(source, 0))

    def tls(self, source=ATTACKER):
        """An attacker who speaks TLS and takes any certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(self.raw(source))


@pytest.fixture
def host():
    running = []

    def start(**options):
        running.append(Host(**options))
        return running[-1]

    yield start
    for one in running:
        with contextlib.suppress(CarrierError):
            listen.connect(one.key, one.where).close()  # lets it end
        assert one.ended()
        told = "\n".join([*one.said, str(one.failed)])
        assert one.key.text() not in told
        assert one.key.text()[5:25] not in told
        assert one.key.secret.hex() not in told


def still_fine(host):
    """It lets in who has the key, and serves."""
    with listen.connect(host.key, host.where) as carrier:
        (answer,) = carrier.ask([Request("clock", {}, 2.0)])
        assert answer.data["unix_ns"]
    assert host.ended()
    assert host.served.asked == {"clock": 1}
    assert host.served.ended == "the peer has ended"


def closed(sock):
    """Whether the other side ends the connection without a word."""
    sock.settimeout(5)
    try:
        return sock.recv(1000) == b""
    except (ConnectionError, ssl.SSLError):
        return True


def test_one_peer_is_let_in_and_no_second(host):
    one = host()
    with listen.connect(one.key, one.where) as carrier:
        assert carrier.ask([Request("identity", {}, 2.0)])[0].data
        with pytest.raises(CarrierError, match="refused"):
            listen.connect(one.key, one.where)
        assert carrier.ask([Request("clock", {}, 2.0)])[0].data
    assert one.ended()
    with pytest.raises(CarrierError, match="refused"):
        listen.connect(one.key, one.where)


def test_of_two_with_the_key_at_once_one_is_let_in(host):
    """Both have their challenge before either proves anything."""
    one = host()
    with one.tls() as first, one.tls() as second:
        challenges = [stream.recv(200).decode().split()[2] for stream in (first, second)]
        for stream, challenge in zip((first, second), challenges, strict=True):
            claim(
                stream,
                ASK,
                sealed._proof(one.key, "dialler", (one.key.fingerprint.hex(), SERVE, ASK, challenge, "ab" * 16)),
            )
            if stream is first:
                assert stream.recv(4) == b"yes "
        assert second.recv(200) == b"no taken\n"
        assert closed(second)
    one.heard("it comes too late")


def test_either_side_may_dial(host):
    """Here the listener asks and the dialler serves."""
    said = []
    listener = Listener(HOST, 0, ASK, said.append)
    served = []

    def dialler():
        channel = listen.dial_to_serve(listener.key, listen.Place(HOST, listener.port))
        served.append(listen.serve(channel, reach=(), seconds=10))

    thread = threading.Thread(target=dialler)
    thread.start()
    with listen.await_peer(listener, 10, name="worker-1") as carrier:
        assert carrier.name == "worker-1"
        assert carrier.ask([Request("clock", {}, 2.0)])[0].data
        (refused,) = carrier.ask([Request("file", {"path": "/etc/shadow"}, 2.0)])
        assert "not among what is read" in refused.error.text
    thread.join(10)
    assert served[0].asked == {"clock": 1}
    assert served[0].refused == 1


def test_wrong_keys_are_counted_and_few(host):
    one = host()
    wrong = Key(b"\0" * 16, one.key.fingerprint)
    for number in range(1, MOST_WRONG + 1):
        start_s = time.monotonic()
        with pytest.raises(CarrierError, match=r"key is wrong|closed the connection"):
            listen.connect(wrong, one.where)
        one.heard(f"refused {HOST}: it does not know the key ({number} of {MOST_WRONG})")
        if number < MOST_WRONG:
            assert time.monotonic() - start_s >= 1.0
    assert one.ended()
    assert one.served is None
    assert "5 wrong keys: nobody is let in any more" in one.failed
    with pytest.raises(CarrierError, match="refused"):
        listen.connect(one.key, one.where)


def test_after_a_wrong_key_the_right_one_is_let_in(host):
    one = host()
    with pytest.raises(CarrierError, match="key is wrong"):
        listen.connect(Key(b"\0" * 16, one.key.fingerprint), one.where)
    still_fine(one)


def claim(stream, role, proof, nonce="ab" * 16):
    stream.sendall(f"{PROTOCOL} {role} {nonce} {proof}\n".encode())


def test_a_proof_is_good_for_one_challenge_only(host):
    """A recorded proof, played again on another connection, is a wrong key."""
    one = host()
    with one.tls() as first:
        challenge = first.recv(200).decode().split()[2]
        talk = (one.key.fingerprint.hex(), SERVE, ASK, challenge, "ab" * 16)
        recorded = sealed._proof(one.key, "dialler", talk)
    with one.tls() as second:
        assert second.recv(200).decode().split()[2] != challenge
        claim(second, ASK, recorded)
        assert second.recv(200) == b"no key\n"
        assert closed(second)
    one.heard("does not know the key (1 of 5)")
    still_fine(one)


def test_a_proof_is_bound_to_the_role_and_the_side(host):
    one = host()
    for role, who in ((SERVE, "dialler"), (ASK, "listener")):
        with one.tls() as stream:
            challenge = stream.recv(200).decode().split()[2]
            talk = (one.key.fingerprint.hex(), SERVE, role, challenge, "ab" * 16)
            claim(stream, ASK, sealed._proof(one.key, who, talk))
            assert stream.recv(200) == b"no key\n"
    still_fine(one)


class Between:
    """A listener of the attacker's that speaks as it likes; what it reads is kept."""

    def __init__(self, certified, speak):
        self._socket = socket.create_server((HOST, 0))
        self.where = listen.Place(HOST, self._socket.getsockname()[1])
        self.heard = b""
        self._context = certified
        self._speak = speak
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        plain, _ = self._socket.accept()
        self._socket.close()
        with contextlib.suppress(OSError):
            plain.settimeout(5)
            with self._context.wrap_socket(plain, server_side=True) as stream:
                self._speak(self, stream)
                while data := stream.recv(1000):
                    self.heard += data

    def join(self):
        self._thread.join(10)


def test_somebody_in_between_with_another_certificate_learns_nothing(host):
    one = host()
    _, context = _certified()

    def speak(between, stream):
        with one.tls() as real:
            stream.sendall(real.recv(200))  # the true listener's challenge, passed on

    between = Between(context, speak)
    with pytest.raises(CarrierError, match="another certificate than the key says"):
        listen.connect(one.key, between.where)
    between.join()
    assert between.heard == b""
    still_fine(one)


@pytest.mark.parametrize("role", [ASK, SERVE])
def test_a_listener_that_only_sends_the_proof_back_is_refused(role):
    """It has the certificate and not the secret: no proof of the dialler's may pass for the listener's."""
    der, context = _certified()
    key = Key(b"s" * 16, sealed.fingerprint(der))

    def speak(between, stream):
        stream.sendall(f"{PROTOCOL} {SERVE if role == ASK else ASK} {'cd' * 16}\n".encode())
        proof = stream.recv(1000).decode().split()[3]
        stream.sendall(f"yes {proof}\n".encode())

    between = Between(context, speak)
    with pytest.raises(CarrierError, match="whoever listens does not know the key"):
        listen._dialled(key, between.where, role)
    between.join()
    assert between.heard == b""  # no greeting: nothing is served


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (
            b"netdiag/listen/2 serve " + b"cd" * 16 + b"\n",
            "speaks netdiag/listen/2, this netdiag speaks netdiag/listen/1",
        ),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is it a netdiag of the same version"),
        (b"x" * 5000, "longer than any should be"),
        (b"netdiag/listen/1 ask " + b"cd" * 16 + b"\nno role\n", "both sides want to ask and none answers"),
        (b"netdiag/listen/1 ask " + b"cd" * 16 + b"\nyes " + b"cd" * 32 + b"\n", "both sides want to ask"),
        (b"", "closed the connection"),
    ],
)
def test_odd_listeners(said, says):
    der, context = _certified()

    def speak(between, stream):
        stream.sendall(said)
        if not said:
            stream.unwrap()

    between = Between(context, speak)
    with pytest.raises(CarrierError, match=says) as caught:
        listen.connect(Key(b"s" * 16, sealed.fingerprint(der)), between.where)
    assert "\n" not in str(caught.value)
    between.join()
    assert b"participant" not in between.heard


def test_both_want_to_serve(host):
    one = host()
    with pytest.raises(CarrierError, match="none asks: run netdiag diagnose on one of them"):
        listen.dial_to_serve(one.key, one.where)
    one.heard(f"refused {HOST}: both sides offer to answer and none asks")
    still_fine(one)


def test_plain_text(host):
    one = host()
    with one.raw() as sock:
        sock.sendall(b'{"id": 1, "verb": "identity"}\n' + b"GET / HTTP/1.1\r\n\r\n")
        assert closed_or_alert(sock)
    one.heard(f"refused {ATTACKER}: no TLS 1.3")
    still_fine(one)


def closed_or_alert(sock):
    """No more than a TLS alert is ever said (a record of type 21)."""
    sock.settimeout(5)
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := sock.recv(1000):
            data += more
    return data == b"" or (data[0] == 21 and len(data) < 20)


def test_no_older_tls(host):
    one = host()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with one.raw() as sock, pytest.raises(ssl.SSLError):
        context.wrap_socket(sock)
    one.heard(f"refused {ATTACKER}: no TLS 1.3 (unsupported protocol)")
    still_fine(one)


def test_a_listener_of_older_tls_is_refused():
    der, context = _certified()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    between = Between(context, lambda between, stream: None)
    with pytest.raises(CarrierError, match=r"no TLS 1\.3"):
        listen.connect(Key(b"s" * 16, sealed.fingerprint(der)), between.where)
    between.join()


def hello():
    """The first bytes of a handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def test_a_truncated_hello(host):
    one = host()
    with one.raw() as sock:
        sock.sendall(hello()[:100])
    one.heard(f"refused {ATTACKER}: ")
    still_fine(one)


def test_who_takes_his_time_is_cut_off_and_hinders_nobody(host):
    one = host(prove_s=1.5)
    start_s = time.monotonic()
    drops = hello()
    with one.raw() as loris, one.tls() as silent:
        assert silent.recv(200).startswith(b"netdiag/listen/1 serve ")
        for at in range(len(drops)):  # each byte comes well in time, all of them would take a minute
            try:
                loris.sendall(drops[at : at + 1])
                loris.settimeout(0.1)
                if loris.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert time.monotonic() - start_s < 5
        assert closed(silent)
    one.heard("nothing came in time")
    one.heard("it says nothing in time")
    still_fine(one)


def test_a_crowd_from_one_address_leaves_room_for_others(host):
    one = host()
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(one.raw()) for _ in range(6)]
        one.heard(f"refused {ATTACKER}: too many connections that prove nothing yet")
        assert closed(crowd[-1])
        still_fine(one)


def test_a_line_that_is_too_long(host):
    one = host()
    with one.tls() as stream:
        stream.recv(200)
        with contextlib.suppress(OSError):
            stream.sendall(b"n" * 100000)
        assert closed(stream)
    one.heard("a line that is longer than any should be")
    still_fine(one)


@pytest.mark.parametrize(
    "said", [b"\n", b"{}\n", b"netdiag/listen/1 ask ab cd\n", b"netdiag/listen/9 ask ", b"\xff\xfe\n"]
)
def test_odd_claims(host, said):
    one = host()
    with one.tls() as stream:
        stream.recv(200)
        if said.endswith(b"ask "):
            said += b"ab" * 16 + b" " + b"cd" * 32 + b"\n"
        stream.sendall(said)
        assert closed(stream)
    one.heard(f"refused {ATTACKER}: ")
    still_fine(one)


def test_nobody_comes(host):
    one = host(seconds=0.3)
    assert one.ended()
    assert one.failed == "nobody came with the key within 0.3 s"


@contextlib.contextmanager
def let_in(one):
    """A hostile peer with the key: the bare channel."""
    with contextlib.closing(sealed.dial(HOST, one.where.port, one.key, ASK, 5.0)) as channel:
        greeting = json.loads(channel.line(Deadline(5.0)))
        assert greeting["protocol"] == "netdiag/participant/1"
        yield channel


def ask(channel, text):
    channel.send(text.encode() + b"\n")
    return json.loads(first_line(channel))


def first_line(channel):
    data = b""
    while b"\n" not in data:
        more = channel.receive(1 << 16, 5.0)
        assert more
        data += more
    return data


def test_requests_of_a_hostile_peer_are_answered_and_change_nothing(host):
    one = host()
    texts = (
        "no json",
        "[1]",
        '{"verb": 3, "id": {"a": []}}',
        '{"verb": "clock", "timeout_s": 1e999, "id": "x", "params": [1]}',
        '{"verb": "file", "params": {"path": {"$b64": "AAAA"}}}',
        "[" * 20000,
        '{"a":' * 20000,
        '{"verb": "clock", "timeout_s": ' + "9" * 5000 + "}",
        '{"verb": "files", "params": {"globs": 7}}',
        '{"verb": "capture-start", "params": {"points": [{"flow": null}]}}',
        '{"verb": "tcp-connect", "params": {"address": null}}',
        "\x00\x01\x02",
    )
    with let_in(one) as channel:
        for text in texts:
            assert "error" in ask(channel, text), text
        assert ask(channel, '{"id": 7, "verb": "clock", "timeout_s": 2}')["id"] == 7
    assert one.ended()
    assert one.served.asked == {"clock": 1}


def test_a_request_that_never_ends_ends_the_session(host):
    one = host()
    with let_in(one) as channel, contextlib.suppress(OSError):
        for _ in range(40):
            channel.send(b"x" * (1 << 16))
    assert one.ended()
    assert one.served.received_bytes < 3 << 20


def test_its_time_is_bounded(host):
    one = host(seconds=2)
    start_s = time.monotonic()
    with let_in(one) as channel:
        assert one.ended()
        assert channel.receive(100, 1.0) == b""
    assert time.monotonic() - start_s < 4
    assert one.served.ended == "2 s are over"


def test_its_bytes_are_bounded(host, monkeypatch):
    monkeypatch.setattr(listen, "LIMIT_BYTES", 20000)
    one = host()
    request = json.dumps({"id": 1, "verb": "file", "params": {"path": "/proc/crypto"}}).encode() + b"\n"
    with let_in(one) as channel, contextlib.suppress(OSError):
        for _ in range(1000):
            channel.send(request)
            while channel.receive(1 << 16, 0.05):
                pass
    assert one.ended()
    assert one.served.ended.startswith("more than")
    assert one.served.sent_bytes < 200000


@pytest.mark.parametrize("answer", [b"[]\n", b"{}" * 9, b"\xff\n", b'{"id": 1, "error": {"kind": "odd"}}\n'])
def test_answers_of_a_hostile_host_are_one_clear_error(answer):
    """The key was given to the wrong host: whoever asks it gets errors, no traceback."""
    listener = Listener(HOST, 0, SERVE, print)

    def hostile():
        channel = listener.accept(10)
        channel.send(b'{"protocol": "netdiag/participant/1", "uid": 0}\n')
        channel.receive(1000, 5.0)
        channel.send(answer)
        channel.close()

    thread = threading.Thread(target=hostile)
    thread.start()
    with listen.connect(listener.key, listen.Place(HOST, listener.port), name="odd") as carrier:
        (got,) = carrier.ask([Request("clock", {}, 1.0)])
    assert "odd" in got.error.text
    assert "\n" not in got.error.text
    thread.join(10)


def test_the_channel_is_safe_for_threads(host):
    """Large answers and requests at once, in both directions."""
    one = host()
    with listen.connect(one.key, one.where) as carrier:
        answers = []
        threads = [
            threading.Thread(
                target=lambda: answers.extend(carrier.ask([Request("file", {"path": "/proc/crypto"}, 5.0)] * 10))
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 80
        assert all(answer.data["text"] for answer in answers)


def test_a_stranger_on_the_wire_sees_no_key(host):
    """A relay that passes everything on sees neither the secret, nor what is asked."""
    one = host()
    seen = io.BytesIO()
    server = socket.create_server((HOST, 0))

    def relay():
        left, _ = server.accept()
        right = socket.create_connection((HOST, one.where.port))

        def pump(source, target):
            while data := source.recv(1 << 16):
                seen.write(data)
                target.sendall(data)
            with contextlib.suppress(OSError):
                target.shutdown(socket.SHUT_WR)

        back = threading.Thread(target=pump, args=(right, left))
        back.start()
        pump(left, right)
        back.join()
        left.close()
        right.close()

    thread = threading.Thread(target=relay)
    thread.start()
    with listen.connect(one.key, listen.Place(HOST, server.getsockname()[1])) as carrier:
        assert carrier.ask([Request("clock", {}, 2.0)])[0].data
    thread.join(10)
    server.close()
    data = seen.getvalue()
    assert len(data) > 500
    for secret in (
        one.key.secret,
        one.key.fingerprint,
        one.key.secret.hex().encode(),
        b"unix_ns",
        b"clock",
        b"netdiag",
    ):
        assert secret not in data


def test_a_channel_ends_while_somebody_waits_in_it(host):
    one = host()
    got = []
    with let_in(one) as channel:
        thread = threading.Thread(target=lambda: got.append(channel.receive(100, 30.0)))
        thread.start()
        channel.close()
        thread.join(5)
    assert got == [b""]
