"""A pasted line: what one side found, as three lines that somebody carries to the other side by hand.

Both sides know a code and nothing else of each other. From it come the key that the answer is signed with, the marks
that their probes carry (`netdiag.carrier.pasted_schedule`). The three lines are base64 of: salt, HMAC, check, and a
small JSON value, deflated. They are signed, not encrypted: what they say can be read by whoever sees them, and forged
by nobody who does not have the code.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import os
import re
import secrets
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from netdiag.errors import CarrierError, UsageError
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Answer, Request, WireError, answer_from_values, values_from_answer

VERSION = 1
COLUMNS = 78
LINES = 3
LEAST_CODE = 8
_MARK, _END = f"nd{VERSION}:", "."
_ANY_MARK = re.compile(r"nd([0-9]{1,4}):")
_SALT_BYTES, _MAC_BYTES, _CHECK_BYTES = 6, 12, 2
_ROOM_BYTES = (LINES * COLUMNS - len(_MARK) - len(_END)) * 6 // 8 - _SALT_BYTES - _MAC_BYTES - _CHECK_BYTES
_MOST_VALUE_BYTES = 16 << 10
"""The longest JSON that is taken out of an answer."""
_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's base 32: no letter looks like a digit."""
_QUOTE = re.compile(r"^[\s>|]+")
_CHARACTERS = re.compile(r"[A-Za-z0-9+/]*")
_DICTIONARY = (
    b"container:overlay:ingress_sboxnftableslegacydocker0br0vxlan0ethveth172.17.0.192.168.10.0.0."
    b"iptables -I INPUT -s  -p udp --dport 4789 -j ACCEPTDROPREJECT --reject-with icmp-port-unreachable"
    b"DOCKER-USERFORWARDOUTPUTPREROUTINGPOSTROUTINGconntrackrp_filter"
    b"firewall.inboundunderlay.filteredoverlay.fdbcontainer.no-listener"
    b'tcpudpicmpechosizesmturttfalse,"true,"null,"error":{"kind":"missing","permission","timeout","text":"'
    b'"frames":[],"more":0,"dropped":0,"points":[{"name":"","error":"","t_us":,"out":true,"data":{"seen":"sent":0,"'
    b'{"host":"","role":"destination","source","in":[],"out":[],"cause":"","a":{"'
)
"""What answers hold, so that deflate need not spell it; the commonest last (zlib's manual, deflateSetDictionary)."""


class WrongCode(UsageError):
    """The answer is whole, and was signed with another code."""


def new_code() -> str:
    """A code of 40 random bits, in two groups."""
    text = "".join(secrets.choice(_LETTERS) for _ in range(LEAST_CODE))
    return f"{text[:4]}-{text[4:]}"


def checked_code(code: str) -> str:
    """The code without what people add or mistake. Raises UsageError when it is too short, or easily guessed."""
    plain = re.sub(r"[\s-]", "", code).upper().replace("O", "0").replace("I", "1").replace("L", "1")
    if len(plain) < LEAST_CODE:
        raise UsageError(
            f"--code: give at least {LEAST_CODE} characters, the same on both hosts (such as {new_code()})"
        )
    if len(set(plain)) < 4:
        raise UsageError(f"--code: that is easily guessed; give another, the same on both hosts (such as {new_code()})")
    return plain


def room_left(value: object) -> int:
    """How many bytes are left when a value is encoded; below zero it does not fit."""
    return _ROOM_BYTES - len(_packed(value))


def encode(value: object, code: str) -> str:
    """The three lines, without a newline at the end.

    Args:
        value: What JSON can say.
        code: As the operators agreed on.

    Raises UsageError for a bad code, and ValueError when the value does not fit: see `room_left`.
    """
    packed = _packed(value)
    if len(packed) > _ROOM_BYTES:
        raise ValueError(f"{len(packed) - _ROOM_BYTES} bytes more than three lines hold")
    salt = os.urandom(_SALT_BYTES)
    signed = salt + _mac(code, salt, packed)
    body = signed + _check(signed + packed) + packed
    text = _MARK + base64.b64encode(body).decode("ascii").rstrip("=") + _END
    width = math.ceil(len(text) / LINES)
    return "\n".join(text[at : at + width] for at in range(0, len(text), width))


def decode(text: str, code: str) -> object:
    """The value, from what was pasted: other line breaks, indentation, quoting and text around it do no harm.

    Raises:
        WrongCode: It was made with another code.
        UsageError: It is not ours, of another version, cut, or damaged; or the code cannot be one.
    """
    body = _body(text)
    head = _SALT_BYTES + _MAC_BYTES
    signed, check, packed = body[:head], body[head : head + _CHECK_BYTES], body[head + _CHECK_BYTES :]
    if len(body) <= head + _CHECK_BYTES or check != _check(signed + packed):
        raise UsageError("the pasted answer is damaged: a character is wrong or missing; copy all three lines again")
    salt = signed[:_SALT_BYTES]
    if not hmac.compare_digest(signed[_SALT_BYTES:], _mac(code, salt, packed)):
        raise WrongCode("the pasted answer was made with another code: both hosts must run with the same --code")
    try:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS, zdict=_DICTIONARY)
        data = inflate.decompress(packed, _MOST_VALUE_BYTES)
        value: object = json.loads(data)  # what is cut at the limit is no JSON
        return value
    except (zlib.error, ValueError, RecursionError):
        raise UsageError("the pasted answer cannot be read: use the same version of netdiag on both hosts") from None


def _body(text: str) -> bytes:
    joined = "".join(re.sub(r"\s", "", _QUOTE.sub("", line)) for line in _from_mark(text).splitlines())
    whole, end, _ = joined[len(_MARK) :].partition(_END)
    if not end:
        raise UsageError("the pasted answer is cut: it ends with a full stop; copy all three lines")
    if _CHARACTERS.fullmatch(whole) is None or len(whole) % 4 == 1:
        raise UsageError("the pasted answer is damaged: copy all three lines again")
    return base64.b64decode(whole + "=" * (-len(whole) % 4))


def _from_mark(text: str) -> str:
    """What was pasted, from where the answer begins."""
    marks = list(_ANY_MARK.finditer(text))
    if not marks:
        raise UsageError(f"that is no answer of netdiag: one begins with {_MARK}")
    ours = next((mark for mark in marks if mark.group(0) == _MARK), None)
    if ours is None:
        raise UsageError(
            f"the pasted answer is of version {marks[0].group(1)}, this netdiag reads version {VERSION}:"
            " use the same version on both hosts"
        )
    return text[ours.start() :]


def _packed(value: object) -> bytes:
    data = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode("utf-8")
    if len(data) > _MOST_VALUE_BYTES:
        return data
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zdict=_DICTIONARY)
    return deflate.compress(data) + deflate.flush()


def _check(data: bytes) -> bytes:
    """Tells a slip of the hand from a wrong code."""
    return hashlib.sha256(data).digest()[:_CHECK_BYTES]


def _mac(code: str, salt: bytes, packed: bytes) -> bytes:
    return hmac.new(stretched(code, salt), b"answer" + salt + packed, hashlib.sha256).digest()[:_MAC_BYTES]


@lru_cache(maxsize=8)
def stretched(code: str, salt: bytes) -> bytes:
    """A key from a code that is short: each guess costs 32 MiB and a tenth of a second (RFC 7914)."""
    return hashlib.scrypt(
        checked_code(code).encode("utf-8"),
        salt=b"netdiag pasted 1" + salt,
        n=1 << 15,
        r=8,
        p=1,
        maxmem=64 << 20,
        dklen=32,
    )


ANSWERS = "a"
"""Where a pasted value holds the answers that a `Pasted` gives."""


def answers_value(answers: Mapping[str, Answer]) -> dict[str, Any]:
    """Answers by their request's key (`Request.key`), as what a pasted value holds under `ANSWERS`; durations apart."""
    values = {}
    for key, answer in answers.items():
        one = values_from_answer(answer)
        one.pop("duration_s")
        values[_short(key)] = one
    return values


class Pasted:
    """A carrier for a host whose answers were carried by hand: it answers what they hold, and nothing else."""

    def __init__(self, name: str, value: object) -> None:
        """Take what `decode` gave. Raises CarrierError when it holds no answers.

        Args:
            name: What the host is called.
            value: The whole value; its answers are under `ANSWERS`.
        """
        self.name = name
        answers = value.get(ANSWERS) if isinstance(value, dict) else None
        if not isinstance(answers, dict):
            raise CarrierError(f"{name}: the pasted answer holds no answers")
        try:
            self._answers = {key: answer_from_values(one) for key, one in answers.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise CarrierError(f"{name}: the pasted answer cannot be understood ({error})") from None

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        """One answer each, in order. Never raises."""
        return [self._answers.get(_short(request.key())) or self._absent(request) for request in requests]

    def _absent(self, request: Request) -> Answer:
        text = f"{request.verb}: not in what was pasted from {self.name}"
        return Answer(error=WireError(AbsenceKind.NOT_PROBED, text))


def _short(key: str) -> str:
    """A request's key as four characters: they need only differ among the few of one answer."""
    return base64.b64encode(hashlib.sha256(key.encode("utf-8")).digest()[:3]).decode("ascii")
