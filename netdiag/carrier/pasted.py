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
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from netdiag.errors import UsageError

VERSION = 2
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
    b"iptables -D INPUT nft insert rule inet position -m conntrack --ctstate -m state --state -i eth0 -m multiport --dports"
    b'"port":,"protocol":"tcp","kind":"socket","address":"192.168.","listening",true,"text":"-P INPUT DROP","policy":"'
    b'"backend":"iptables-legacy","backend":"nft-native","family":"ip6","family":"inet","table":"nat","chain":"forward'
    b'"owner":"docker","chain":"OUTPUT","chain":"DOCKER-USER","owner":"firewalld","call_site":"filter INPUT rule '
    b'["firewall.policy",0,false,{"kind":"policy","container.no-listener",null,"0.0 ms","connected after '
    b'["firewall.rule",0,false,{"kind":"rule","backend":"iptables-nft","namespace":"host","family":"ip","table":"filter",'
    b'"chain":"INPUT","number":1,"text":"-A INPUT -p tcp -m tcp --dport 2377 -j DROP","owner":"operator"},['
    b'"iptables -I INPUT 1 -s 10. -p tcp --dport 22 -m comment --comment netdiag- -j ACCEPT"],["iptables -D INPUT -s '
    b'["overlay.fdb-stale",1,false,{"kind":"fdb","namespace":"overlay:","mac":"02:42:0a:00:","device":"vxlan0","vtep":"10.'
    b'","expected":"10."text":"-A INPUT -p udp -m udp --dport 4789 -j REJECT --reject-with icmp-port-unreachable","'
    b'[[3,0,"eth0"],[2,2,"vxlan0"],[1,2,"veth1"],[0,1,"eth0"]],[[179[[0,1,"eth0"],[1,2,"veth1"],[2,2,"vxlan0"],[3,0,"eth0"]],'
    b'[[2,0,0],[2,0,0],[2,0,0],[2,0,0]],2,"",null,true,[[2,0,0],[0,0,0],[0,0,0],[0,0,0]],null,"",null,true,"",4789],""]'
    b'[[1,"10.","10.0.0.1","tcp",2377],60,[[3,"host","eth0"]],[[17640,[[1,0,0],[2,0,0]],2,"no answer within",null,true,'
    b'[[0,0,0]],null,"",null,false,1]],[],0,"","",null,""]'
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


def answers_in(text: str) -> Iterator[str]:
    """The answers that a text holds, each from its mark; a text may hold several, as a file of both sides' does."""
    marks = [mark.start() for mark in _ANY_MARK.finditer(text)]
    for begin, end in pairwise([*marks, len(text)]):
        yield text[begin:end]


def is_whole(text: str) -> bool:
    """Whether a text holds an answer up to its full stop: nothing more of it is to come."""
    return any(_END in answer for answer in answers_in(text))


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
