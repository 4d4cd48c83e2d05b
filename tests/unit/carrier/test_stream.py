"""A participant at the far end of a stream that is of another version, hostile, cut or silent."""

import json
import resource
import threading
import time
from pathlib import Path

import pytest

from netdiag.carrier import stream
from netdiag.carrier.stream import NoGreeting, StreamCarrier
from netdiag.errors import CarrierError
from netdiag.lab.process import until
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Request
from netdiag.participant import stream as far_side
from tests.unit.carrier.far_end import GREETING, FarEnd


@pytest.fixture
def far():
    end = FarEnd()
    yield end
    end.tidy()


def ask_one(carrier, far, *answers, timeout_s=2.0, verb="identity"):
    """Ask one request and have the far end say ``answers``, in which ID stands for the number that was asked."""
    done = []
    asking = threading.Thread(target=lambda: done.extend(carrier.ask([Request(verb, timeout_s=timeout_s)])))
    asking.start()
    number = far.hear()["id"]
    far.say(*(each.replace(b"ID", b"%d" % number) for each in answers))
    asking.join(timeout_s + stream.LATENCY_S + 2)
    assert not asking.is_alive(), "ask hangs"
    return done[0]


# ---- what works


def test_answers_go_to_whom_they_belong_in_whatever_order_they_come(far):
    with far.carrier() as carrier:
        assert carrier.is_root
        assert carrier.restriction == ""
        done = []
        requests = [Request("clock"), Request("identity", {"data": b"\x00\xff"})]
        asking = threading.Thread(target=lambda: done.extend(carrier.ask(requests)))
        asking.start()
        first, second = far.hear(), far.hear()
        assert first["verb"] == "clock"
        assert second["params"] == {"data": {"$b64": "AP8="}}
        far.say(
            {"id": second["id"], "data": {"raw": {"$b64": "AP8="}}, "duration_s": 0.5},
            {"id": first["id"], "error": {"kind": "permission", "text": "no"}, "duration_s": 0.1},
        )
        asking.join(5)
    assert done[0].error.kind is AbsenceKind.PERMISSION
    assert done[1].data == {"raw": b"\x00\xff"}
    assert done[1].duration_s == 0.5


def test_the_program_is_sent_only_when_an_interpreter_asks_for_it(far):
    far.say(b"Welcome to this host\nLast login: never\n\nnetdiag-ready\n")
    served = []

    def serve():
        served.append(far.hear_bytes(7))
        far.say(GREETING)

    threading.Thread(target=serve, daemon=True).start()
    with StreamCarrier("far", far.source, far.target, greet_s=5.0, close=far.close, program=b"program"):
        assert served == [b"program"]


def test_who_is_not_root_there_is_told_what_that_costs(far):
    with far.carrier({**GREETING, "uid": 1000}) as carrier:
        assert not carrier.is_root
        assert "far: not root there: no rule is traced" in carrier.restriction


# ---- greetings


@pytest.mark.parametrize("spoken", ["netdiag/participant/9", "HTTP/1.1 400", "x" * 5000, "\x1b[2Jclear"])
def test_another_protocol_is_named(far, spoken):
    with pytest.raises(CarrierError) as caught:
        far.carrier({"protocol": spoken})
    text = str(caught.value)
    assert text.startswith("far: it speaks '")
    assert text.endswith(f"this netdiag speaks {far_side.PROTOCOL}: use the same version")
    assert len(text) < 200
    assert text.isprintable()
    assert far.closed == 1


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\x00\xff\xfe" * 100,
        b"{}\n[]\nnull\n",
        b'{"protocol": 7}\n',
        b'{"protocol": ["netdiag/participant/1"]}\n',
        b"[" * 200_000 + b"\n",
        b'{"protocol": "netdiag/participant/1", "uid": 0',
    ],
)
def test_what_is_no_greeting_is_an_error_and_not_a_hang(far, said):
    far.say(said, last=True)
    with pytest.raises(NoGreeting, match=r"far: (the connection was closed|it sends something else)") as caught:
        StreamCarrier("far", far.source, far.target, greet_s=5.0, close=far.close)
    assert not caught.value.timed_out
    assert all(each.isprintable() for each in caught.value.came)


def test_an_endless_line_before_the_greeting_ends_soon(far):
    far.say(b"a" * (stream.PREFACE_LIMIT_BYTES + 1))
    with pytest.raises(NoGreeting, match="something else than a greeting"):
        StreamCarrier("far", far.source, far.target, greet_s=5.0, close=far.close)


def test_a_silent_other_side_is_waited_for_no_longer_than_said(far):
    start_s = time.monotonic()
    with pytest.raises(NoGreeting, match=r"no answer within 0\.2 s") as caught:
        far.carrier(b"Are you sure? ", greet_s=0.2)
    assert time.monotonic() - start_s < 2.0
    assert caught.value.timed_out
    assert not caught.value.started


@pytest.mark.parametrize("uid", ["0", None, False, [], 10**30])
def test_only_the_number_0_is_root(far, uid):
    with far.carrier({**GREETING, "uid": uid}) as carrier:
        assert not carrier.is_root


# ---- answers


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b'{"id": ID}', "neither data nor error"),
        (b'{"id": ID, "data": []}', "neither data nor error"),
        (b'{"id": ID, "data": "text"}', "neither data nor error"),
        (b'{"id": ID, "data": {"raw": {"$b64": "***"}}}', ""),
        (b'{"id": ID, "data": {}, "duration_s": "soon"}', "soon"),
        (b'{"id": ID, "data": {}, "duration_s": [1]}', ""),
        (b'{"id": ID, "data": {}, "duration_s": 1' + b"0" * 400 + b"}", ""),
        (b'{"id": ID, "error": {"kind": "rooted", "text": "x"}}', "rooted"),
        (b'{"id": ID, "error": {"kind": ["x"]}}', ""),
        (b'{"id": ID, "error": {}}', "None"),
    ],
)
def test_an_answer_of_wrong_types_is_an_error_of_that_request_only(far, answer, told):
    with far.carrier() as carrier:
        got = ask_one(carrier, far, answer + b"\n")
        assert got.data is None
        assert got.error.kind is AbsenceKind.FAILED
        assert got.error.text.startswith("far: ")
        assert told in got.error.text
        assert ask_one(carrier, far, b'{"id": ID, "data": {"fine": 1}}\n').data == {"fine": 1}


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x80\x81garbage\n",
        b"[]\n",
        b"[" * 100_000 + b"\n",
        b'{"a":' * 100_000 + b"\n",
        b"1" * 10_000 + b"\n",
        b'{"id": 1, "data": {"cut": \n',
    ],
)
def test_what_is_no_answer_ends_the_stream_with_an_error(far, garbage):
    with far.carrier() as carrier:
        got = ask_one(carrier, far, garbage)
        assert got.error.text == "far: an answer that cannot be read"
        again = carrier.ask([Request("clock")])[0]
        assert again.error.text == "clock: far: an answer that cannot be read"


def test_a_cut_answer_and_a_cut_connection_are_errors_at_once(far):
    with far.carrier(last_words=lambda: "Connection reset by\x1b peer") as carrier:
        start_s = time.monotonic()
        done = []
        asking = threading.Thread(target=lambda: done.extend(carrier.ask([Request("clock", timeout_s=30.0)] * 3)))
        asking.start()
        for _ in range(3):
            far.hear()
        far.say(b'{"id": 1, "da', last=True)
        asking.join(5)
        assert time.monotonic() - start_s < 5
        assert {each.error.text for each in done} == {
            "far: an answer that is cut, or longer than any should be (Connection reset by peer)"
        }


@pytest.mark.parametrize("number", [b"-1", b"0", b"99", b"1e999", b"true", b"null", b'"1"', b"[1]", b"NaN", b"1.0"])
def test_an_answer_that_nobody_asked_for_is_dropped(far, number):
    with far.carrier() as carrier:
        # Asked with number 1, which is also what true and 1.0 compare equal to.
        stray = b'{"id": ' + number + b', "data": {"forged": 1}}\n'
        assert ask_one(carrier, far, stray, b'{"id": ID, "data": {"true": 1}}\n').data == {"true": 1}


def test_the_first_answer_counts_and_a_flood_of_others_is_not_kept(far):
    with far.carrier() as carrier:
        got = ask_one(carrier, far, b'{"id": ID, "data": {"n": 0}}\n' + b'{"id": 1, "data": {"n": 1}}\n' * 1000)
        assert got.data == {"n": 0}
        assert carrier._waiting == {}


def test_durations_are_numbers_of_seconds(far):
    with far.carrier() as carrier:
        for said, told in ((b"NaN", 0.0), (b"Infinity", 0.0), (b"-3", 0.0), (b"2", 2.0)):
            assert ask_one(carrier, far, b'{"id": ID, "data": {}, "duration_s": ' + said + b"}\n").duration_s == told


def test_no_control_character_and_no_half_character_gets_through(far):
    with far.carrier() as carrier:
        text = b"\\u001b]0;owned\\u0007\\n" + b"x" * 2000
        got = ask_one(carrier, far, b'{"id": ID, "error": {"kind": "failed", "text": "' + text + b'"}}\n')
        assert got.error.text.isprintable()
        assert len(got.error.text) <= 500
        halves = (
            b'{"id": ID, "data": {"a": "\\ud800", "b": "\\udfff\\ud83d", "c": "\\ud83d\\ude00", "d": "\\\\ud800"}}\n'
        )
        data = ask_one(carrier, far, halves).data
        assert data == {"a": "\ufffd", "b": "\ufffd\ufffd", "c": "\N{GRINNING FACE}", "d": "\\ud800"}
        json.dumps(data, ensure_ascii=False).encode()


def test_bombs_are_not_unpacked(far):
    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with far.carrier() as carrier:
        before = peak()
        # 18 MB that would be 400 MB of lists.
        got = ask_one(carrier, far, b'{"id": ID, "data": {"x": [' + b"[]," * 6_000_000 + b"[]]}}\n", timeout_s=20.0)
        assert got.error.text == "far: an answer that cannot be read"
        assert peak() - before < 120_000


def test_an_endless_line_ends_at_the_limit(far, monkeypatch):
    monkeypatch.setattr(stream, "LIMIT_BYTES", 1 << 20)
    with far.carrier() as carrier:
        got = ask_one(carrier, far, b'{"id": ID, "data": {"x": "' + b"a" * (2 << 20))
        assert got.error.text == "far: an answer that is cut, or longer than any should be"


# ---- time


def test_an_answer_that_does_not_come_is_a_timeout_and_a_late_one_is_dropped(far, monkeypatch):
    monkeypatch.setattr(stream, "LATENCY_S", 0.1)
    with far.carrier() as carrier:
        got = carrier.ask([Request("clock", timeout_s=0.2)])[0]
        assert got.error.kind is AbsenceKind.TIMEOUT
        assert got.error.text == "clock: no answer from far within 0.3 s"
        assert carrier._waiting == {}


def test_a_stuck_stream_holds_up_neither_asking_nor_closing(far, monkeypatch):
    monkeypatch.setattr(stream, "LATENCY_S", 0.1)
    carrier = far.carrier()
    start_s = time.monotonic()
    # Far more than the pipe holds, and nobody reads it.
    answers = carrier.ask([Request("file", {"path": "x" * 500_000}, timeout_s=0.2)] * 4)
    assert {each.error.kind for each in answers} == {AbsenceKind.TIMEOUT}
    carrier.close()
    assert time.monotonic() - start_s < 3.0
    assert far.closed == 1


def test_a_request_that_the_other_side_would_not_read_is_not_sent(far):
    with far.carrier() as carrier:
        got = carrier.ask([Request("scratch-rules", {"text": "x" * far_side.LIMIT_BYTES})])[0]
        assert "is too long" in got.error.text
        assert ask_one(carrier, far, b'{"id": ID, "data": {}}\n').data == {}


def test_closing_answers_whoever_waits_and_is_done_once(far):
    carrier = far.carrier()
    done = []
    asking = threading.Thread(target=lambda: done.extend(carrier.ask([Request("clock", timeout_s=30.0)])))
    asking.start()
    far.hear()
    carrier.close()
    carrier.close()
    asking.join(3)
    assert done[0].error.text == "far: the connection was ended from here"
    assert carrier.ask([Request("clock")])[0].error.text == "clock: far: the connection was ended from here"
    assert far.closed == 1


def test_nothing_stays_open_when_it_is_closed():
    def still_open():
        return {path.name for path in Path("/proc/self/fd").iterdir()}

    before = still_open()
    end = FarEnd()
    end.carrier().close()
    until(lambda: still_open() <= before, 3.0, "the end of both pipes")
