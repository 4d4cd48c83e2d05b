"""A channel to another host, sealed with a key that was carried by hand: TLS 1.3, then a challenge both ways.

The listener's certificate is made for this one time, and its SHA-256 fingerprint is part of the key: whoever dials knows
at once that nobody is in between. Then each proves that it holds the key's secret, by an HMAC over its own name (so that
a proof cannot be sent back), what both are there for, the fingerprint and two fresh nonces. Lines of ASCII, in order::

    listener   netdiag/listen/1 ROLE NONCE
    dialler    netdiag/listen/1 ROLE NONCE PROOF
    listener   yes PROOF, or no REASON

One of the two roles is ``serve``, the other ``ask``. Nothing else is sent or read before both proofs are good.
"""

import base64
import hashlib
import hmac
import os
import re
import socket
import ssl
from typing import Tuple

from netdiag.participant.channel import Channel, SealedError
from netdiag.participant.deadline import Deadline

PROTOCOL = "netdiag/listen/1"
SERVE, ASK = "serve", "ask"
SECRET_BYTES = 16
PREFIX = "ndk1-"
_FINGERPRINT_BYTES = 32
_CHECK_BYTES = 3
_TEXT = re.compile(r"[A-Za-z0-9_-]{68}")
_HELLO = re.compile(r"(netdiag/listen/[0-9]{1,6}) (serve|ask) ([0-9a-f]{32})")
_CLAIM = re.compile(r"(netdiag/listen/[0-9]{1,6}) (serve|ask) ([0-9a-f]{32}) ([0-9a-f]{64})")
_YES = re.compile(r"yes ([0-9a-f]{64})")
_DENIED = {
    "key": "it says that the key is wrong: each key is good for one listener and one peer",
    "taken": "another host has used this key already: start the listener again for a new one",
}


_SAME = {
    SERVE: "both sides offer to answer and none asks: run netdiag diagnose on one of them",
    ASK: "both sides want to ask and none answers: run netdiag listen on one of them",
}


class WrongKey(SealedError):
    """Whoever dialled does not know the key."""


class Key:
    """The secret and the fingerprint of the listener's certificate."""

    __slots__ = ("fingerprint", "secret")

    def __init__(self, secret: bytes, fingerprint: bytes) -> None:
        self.secret = secret
        self.fingerprint = fingerprint

    def __repr__(self) -> str:
        return "Key(…)"

    def text(self) -> str:
        """What is carried to the other host."""
        body = self.secret + self.fingerprint
        return PREFIX + base64.urlsafe_b64encode(body + _check(body)).decode("ascii")

    @classmethod
    def parse(cls, text: str) -> "Key":
        """The inverse of `text`; white space around and within it is what a paste may add. Raises ValueError."""
        packed = "".join(text.split())
        if not packed:
            raise ValueError("the key is empty")
        version = re.match(r"ndk([0-9]+)-", packed)
        if version is None:
            raise ValueError("that is no key of netdiag listen: one begins with " + PREFIX)
        if version.group(0) != PREFIX:
            raise ValueError("that key is of another version of netdiag: use the same one on both hosts")
        packed = packed[len(PREFIX) :]
        if _TEXT.fullmatch(packed) is None:
            raise ValueError("the key is not whole: {} characters follow {}, not 68".format(len(packed), PREFIX))
        body = base64.urlsafe_b64decode(packed)
        body, check = body[:-_CHECK_BYTES], body[-_CHECK_BYTES:]
        if not hmac.compare_digest(check, _check(body)):
            raise ValueError("the key has a wrong character: copy it again")
        return cls(body[:SECRET_BYTES], body[SECRET_BYTES:])


def _check(body: bytes) -> bytes:
    """Tells a slip of the hand from a key that nobody knows."""
    return hashlib.sha256(body).digest()[:_CHECK_BYTES]


def fingerprint(certificate_der: bytes) -> bytes:
    """SHA-256 of a certificate."""
    return hashlib.sha256(certificate_der).digest()


def dial(address: str, port: int, key: Key, role: str, timeout_s: float) -> Channel:
    """Reach a listener, and prove both ways that it is the one of the key.

    Raises:
        SealedError: Nobody there, somebody else there, or whoever is there does not want this peer.
    """
    deadline = Deadline(timeout_s)
    try:
        plain = socket.create_connection((address, port), timeout_s)
    except OSError as error:
        reason = "no answer within {:g} s".format(timeout_s) if "timed out" in str(error) else error.strerror or error
        raise SealedError("connect to port {}: {}".format(port, reason))
    try:
        channel = Channel(plain, _client_context(), False)
    except OSError as error:
        plain.close()
        raise SealedError("connect to port {}: {}".format(port, error.strerror or error))
    try:
        channel.shake_hands(deadline)
        if not hmac.compare_digest(fingerprint(channel.certificate()), key.fingerprint):
            raise SealedError(
                "another certificate than the key says: this is another listener, or somebody is in between"
            )
        _ask_for(channel, key, role, deadline)
    except OSError as error:
        channel.close()
        raise SealedError("it closed the connection ({})".format(error.strerror or error))
    except BaseException:
        channel.close()
        raise
    return channel


def _ask_for(channel: Channel, key: Key, role: str, deadline: Deadline) -> None:
    said = channel.line(deadline)
    hello = _HELLO.fullmatch(said)
    if hello is None:
        raise SealedError("what it says is not {}: is it a netdiag of the same version?".format(PROTOCOL))
    if hello.group(1) != PROTOCOL:
        text = "it speaks {}, this netdiag speaks {}: use the same version on both hosts"
        raise SealedError(text.format(hello.group(1), PROTOCOL))
    theirs, their_nonce = hello.group(2), hello.group(3)
    nonce = os.urandom(16).hex()
    talk = (key.fingerprint.hex(), theirs, role, their_nonce, nonce)
    channel.send("{} {} {} {}\n".format(PROTOCOL, role, nonce, _proof(key, "dialler", talk)).encode("ascii"))
    said = channel.line(deadline)
    yes = _YES.fullmatch(said)
    if yes is None or theirs == role:
        reason = said[3:] if said.startswith("no ") else ""
        raise SealedError(_SAME[role] if theirs == role else _DENIED.get(reason, "it does not want this peer"))
    if not hmac.compare_digest(yes.group(1), _proof(key, "listener", talk)):
        raise SealedError("whoever listens does not know the key")


class Claim:
    """A peer that has dialled: `read` finds out whether it knows the key, then it is granted or denied."""

    def __init__(self, channel: Channel, key: Key, role: str) -> None:
        self.channel = channel
        self._key = key
        self._role = role
        self._talk = ("", "", "", "", "")

    def read(self, deadline: Deadline) -> None:
        """Shake hands and judge the proof.

        Raises:
            WrongKey: A proof came, and it is wrong.
            SealedError: None came, or one of another version or for the same role.
        """
        self.channel.shake_hands(deadline)
        nonce = os.urandom(16).hex()
        self.channel.send("{} {} {}\n".format(PROTOCOL, self._role, nonce).encode("ascii"))
        claim = _CLAIM.fullmatch(self.channel.line(deadline))
        if claim is None:
            raise SealedError("what it says is not {}".format(PROTOCOL))
        version, role, their_nonce, proof = claim.groups()
        if version != PROTOCOL:
            raise SealedError("it speaks {}, this netdiag speaks {}".format(version, PROTOCOL))
        self._talk = (self._key.fingerprint.hex(), self._role, role, nonce, their_nonce)
        if not hmac.compare_digest(proof, _proof(self._key, "dialler", self._talk)):
            raise WrongKey("it does not know the key")
        if role == self._role:
            self.deny("role")
            raise SealedError(_SAME[role])

    def grant(self) -> None:
        """Show that this side knows the key too; from then on the channel is the caller's."""
        self.channel.send("yes {}\n".format(_proof(self._key, "listener", self._talk)).encode("ascii"))

    def deny(self, reason: str) -> None:
        """Say no, for one of "key", "taken" and "role"."""
        try:
            self.channel.send("no {}\n".format(reason).encode("ascii"))
        except OSError:
            pass


def _proof(key: Key, who: str, talk: Tuple[str, str, str, str, str]) -> str:
    """HMAC-SHA256 over fields that hold no line break each, so that none can pass for another."""
    message = "\n".join((PROTOCOL, who) + talk)
    return hmac.new(key.secret, message.encode("ascii"), hashlib.sha256).hexdigest()


def only_new_tls(context: ssl.SSLContext) -> None:
    """TLS 1.3 and nothing older. Raises SealedError where this Python's OpenSSL has none."""
    if not getattr(ssl, "HAS_TLSv1_3", False):
        raise SealedError("this Python's {} has no TLS 1.3".format(ssl.OPENSSL_VERSION))
    if hasattr(context, "minimum_version"):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
    else:  # Python 3.6
        context.options |= ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1 | ssl.OP_NO_TLSv1_2


def _client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    only_new_tls(context)
    # The certificate is known by its fingerprint; names, dates and authorities say nothing here.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
