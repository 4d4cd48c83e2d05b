"""The listening side of `netdiag listen`: a throw-away certificate, a one-time key, and one peer that is let in.

Whoever connects has a few seconds to prove that it knows the key. Few may try at once, fewer from one address; after a
few wrong keys nobody is let in any more, and after the first right one neither.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
import queue
import secrets
import select
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable

from netdiag.errors import CarrierError, UsageError
from netdiag.participant.channel import Channel, SealedError
from netdiag.participant.deadline import Deadline
from netdiag.participant.sealed import SECRET_BYTES, Claim, Key, WrongKey, fingerprint, only_new_tls

PROVE_S = 8.0
MOST_WRONG = 5
AT_ONCE, AT_ONCE_FROM_ONE = 16, 3
BETWEEN_WRONG_S = 1.0
BETWEEN_CONNECTIONS_S = 0.05
MOST_SAID = 20
"""How many refused connections are told one by one."""

Say = Callable[[str], None]


class Listener:
    """A listening socket that ends with its first peer. Nothing is on disk; everything goes with the process."""

    def __init__(self, address: str, port: int, role: str, say: Say, *, prove_s: float = PROVE_S) -> None:
        """Listen.

        Args:
            address: An address of this host.
            port: 0 for any that is free.
            role: `netdiag.participant.sealed.SERVE` or ``ASK``.
            say: Told who was refused, and why; it holds nothing of the key.
            prove_s: How long one who connects may take until its proof is there.

        Raises UsageError for an address that is none of this host, or a port that is taken.
        """
        self._role = role
        self._say = say
        self._prove_s = prove_s
        certificate_der, self._context = _certified()
        self.key = Key(secrets.token_bytes(SECRET_BYTES), fingerprint(certificate_der))
        self._socket = _bound(address, port)
        self.address, self.port = self._socket.getsockname()[:2]
        self._lock = threading.Lock()
        self._trying: Counter[str] = Counter()
        self._said = 0
        self._wrong = 0
        self._judge_s = 0.0
        self._judging = threading.Lock()
        self._done: queue.SimpleQueue[Channel | None] = queue.SimpleQueue()
        self._taken = False

    def accept(self, seconds: float) -> Channel:
        """Wait for the one peer, then listen no more.

        Raises CarrierError when nobody came who knows the key, or too many came who do not.
        """
        end_s = time.monotonic() + seconds
        try:
            while True:
                with contextlib.suppress(queue.Empty):
                    channel = self._done.get_nowait()
                    if channel is None:
                        raise CarrierError(f"{self._wrong} wrong keys: nobody is let in any more; start again")
                    return channel
                left_s = end_s - time.monotonic()
                if left_s <= 0:
                    raise CarrierError(f"nobody came with the key within {seconds:g} s")
                if select.select([self._socket], [], [], min(left_s, 0.1))[0]:
                    self._admit()
                    time.sleep(BETWEEN_CONNECTIONS_S)  # a bound on what a flood costs; the kernel queues the others
        finally:
            with self._lock:
                self._taken = True
            self.close()

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()

    def _admit(self) -> None:
        try:
            plain, (address, *_) = self._socket.accept()
        except OSError:
            return
        with self._lock:
            crowded = self._trying.total() >= AT_ONCE or self._trying[address] >= AT_ONCE_FROM_ONE
            if not crowded:
                self._trying[address] += 1
        if crowded:
            plain.close()
            self._tell(address, "too many connections that prove nothing yet")
            return
        threading.Thread(target=self._try, args=(plain, address), name="netdiag-admit", daemon=True).start()

    def _try(self, plain: socket.socket, address: str) -> None:
        channel = None
        try:
            channel = Channel(plain, self._context, server=True)
            self._judge(Claim(channel, self.key, self._role), address)
        except (SealedError, OSError) as error:
            if channel is not None:
                channel.close()
            plain.close()
            if not isinstance(error, WrongKey):
                self._tell(address, str(error))
        finally:
            with self._lock:
                self._trying[address] -= 1
                self._trying += Counter()  # forgets those at zero

    def _judge(self, claim: Claim, address: str) -> None:
        try:
            claim.read(Deadline(self._prove_s))
        except WrongKey:
            with self._lock:
                self._wrong += 1
                wrong = self._wrong
            if wrong <= MOST_WRONG:
                self._say(f"refused {address}: it does not know the key ({wrong} of {MOST_WRONG})")
            if wrong == MOST_WRONG:
                self._done.put(None)
            with self._judging:  # one after the other, and slowly
                time.sleep(BETWEEN_WRONG_S)
            claim.deny("key")
            raise
        with self._lock:
            taken = self._taken or self._wrong >= MOST_WRONG
            self._taken = True
        if taken:
            claim.deny("taken")
            raise SealedError("it comes too late")
        try:
            claim.grant()
        except OSError:
            with self._lock:
                self._taken = False  # nothing was served: it may come again
            raise
        self._done.put(claim.channel)

    def _tell(self, address: str, why: str) -> None:
        with self._lock:
            self._said += 1
            said = self._said
        if said <= MOST_SAID:
            self._say(f"refused {address}: {why}")
        if said == MOST_SAID:
            self._say("more refusals are not told")


def _bound(address: str, port: int) -> socket.socket:
    try:
        family, _, _, _, where = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError, OverflowError):
        raise UsageError(f"listen on {address}: give an address of this host") from None
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.listen(AT_ONCE)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise UsageError(f"listen on {address} port {port}: {error.strerror}") from error
    return sock


def _certified() -> tuple[bytes, ssl.SSLContext]:
    """A self-signed certificate with a new key, as DER, and the server's context that has them; both in memory only."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "netdiag listen")])
    now = dt.datetime.now(dt.UTC)
    day = dt.timedelta(days=1)  # nobody judges by the dates: either clock may be wrong
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .sign(private, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    only_new_tls(context)
    context.num_tickets = 0  # nobody comes a second time
    # ssl takes certificates by a file's name only: this file is anonymous memory, and closed at once.
    descriptor = os.memfd_create("netdiag-certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return certificate.public_bytes(serialization.Encoding.DER), context


def is_loopback(address: str) -> bool:
    """Whether only this host reaches it."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def own_address_towards(peer: str) -> str:
    """The address of this host that leads to a peer, given by name or address. No packet is sent.

    Raises UsageError when the peer has no address, or no route leads to it.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(peer, 9, type=socket.SOCK_DGRAM)[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(f"--peer {peer}: {getattr(error, 'strerror', '') or 'no name and no address'}") from None
    with socket.socket(family, kind, protocol) as sock:
        try:
            sock.connect(where)
        except OSError as error:
            raise UsageError(f"--peer {peer}: no route leads there from this host ({error.strerror})") from None
        return str(sock.getsockname()[0])
