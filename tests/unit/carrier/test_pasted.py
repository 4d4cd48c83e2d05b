"""The pasted line: what hands, mail programs and strangers do to it."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdiag.carrier import pasted, pasted_schedule
from netdiag.errors import UsageError

CODE = "H9JA-QDA3"
VALUE = {
    "host": "worker-1",
    "in": [{"n": "eth0", "t": 1200}, {"n": "vxlan0", "t": 1300}],
    "cause": "firewall.inbound",
    "rule": "-A INPUT -p udp --dport 4789 -j REJECT --reject-with icmp-port-unreachable",
}


@pytest.fixture(scope="module")
def text():
    return pasted.encode(VALUE, CODE)


def test_three_lines_that_fit_a_terminal(text):
    lines = text.splitlines()
    assert len(lines) == 3
    assert max(map(len, lines)) <= 78
    assert pasted.decode(text, CODE) == VALUE


def test_the_fullest_answer_still_fits():
    value = ""
    while pasted.room_left(value) > 0:
        value += f"{len(value) * 7919 % 256:02x}"
    while pasted.room_left(value) < 0:
        value = value[:-1]
    lines = pasted.encode(value, CODE).splitlines()
    assert len(lines) == 3
    assert 74 <= max(map(len, lines)) <= 78
    with pytest.raises(ValueError, match="bytes more than three lines hold"):
        pasted.encode(value + "0123456789abcdef" * 4, CODE)


def wrapped(text, columns):
    joined = text.replace("\n", "")
    return "\n".join(joined[at : at + columns] for at in range(0, len(joined), columns))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("\n", "\r\n") + "\r\n",
        lambda text: "\n".join("    " + line + "  " for line in text.splitlines()),
        lambda text: "\n".join("> > " + line for line in text.splitlines()),
        lambda text: "\n".join(">> | " + line for line in text.splitlines()),
        lambda text: "On Monday Bob wrote:\nhere it is\n\n" + text + "\nregards. Bob",
        lambda text: text.replace("\n", " "),
        lambda text: wrapped(text, 40),
        lambda text: text.replace("\n", "\n\n"),
    ],
    ids=["crlf", "indented", "quoted", "quoted twice", "in a mail", "one line", "wrapped", "blank lines"],
)
def test_what_mail_programs_do(text, spoil):
    assert pasted.decode(spoil(text), CODE) == VALUE


def test_the_code_is_forgiving(text):
    assert pasted.decode(text, " h9ja qda3 ") == VALUE
    zero, letter = pasted.encode(1, "0011-ABCD"), "OOIL-abcd"
    assert pasted.decode(zero, letter) == 1


def test_a_wrong_code_is_told_from_a_damaged_text(text):
    with pytest.raises(pasted.WrongCode, match="another code"):
        pasted.decode(text, "H9JA-QDA4")
    at = len(text) - 10
    with pytest.raises(UsageError, match="damaged"):
        pasted.decode(text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :], CODE)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda text: "\n".join(text.splitlines()[:2]), "is cut"),
        (lambda text: "\n".join(text.splitlines()[1:]), "no answer of netdiag"),
        (lambda text: text.replace("\n", "", 1)[:60] + ".", "damaged"),
        (lambda text: "nd2:.", "damaged"),
        (lambda text: "nd2:" + "ä" * 40 + ".", "damaged"),
        (lambda text: "", "no answer of netdiag"),
        (lambda text: text.replace("nd2:", "nd1:"), "version 1, this netdiag reads version 2"),
        (lambda text: "\n".join(reversed(text.splitlines())), "damaged|is cut"),
    ],
)
def test_what_is_no_answer(text, spoil, says):
    with pytest.raises(UsageError, match=says) as caught:
        pasted.decode(spoil(text), CODE)
    assert "\n" not in str(caught.value)
    assert CODE not in str(caught.value)


@pytest.mark.parametrize("code", ["", "1234567", "AAAAAAAA", "ABAB-ABAB"])
def test_codes_that_are_too_weak(code):
    with pytest.raises(UsageError, match="--code"):
        pasted.encode(VALUE, code)


def test_new_codes_are_good_and_differ():
    codes = {pasted.new_code() for _ in range(50)}
    assert len(codes) == 50
    assert all(re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{4}-[0-9A-HJKMNP-TV-Z]{4}", code) for code in codes)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=25, deadline=None)
@given(json_values, st.integers(10, 100))
def test_any_small_value_and_any_wrap(value, columns):
    if pasted.room_left(value) >= 0:
        text = pasted.encode(value, CODE)
        assert len(text.splitlines()) <= 3
        assert pasted.decode(wrapped(text, columns), CODE) == value


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300))
def test_nonsense_is_one_clear_line(text):
    for candidate in (text, "nd2:" + text, "nd2:" + text + "."):
        with pytest.raises(UsageError):
            pasted.decode(candidate, CODE)


def test_a_bomb_is_not_inflated(monkeypatch):
    with pytest.raises(ValueError, match="more than three lines"):
        pasted.encode("x" * 20000, CODE)
    monkeypatch.setattr(pasted, "_MOST_VALUE_BYTES", 1 << 20)
    bomb = pasted.encode("x" * 20000, CODE)
    monkeypatch.undo()
    with pytest.raises(UsageError, match="cannot be read"):
        pasted.decode(bomb, CODE)


def test_several_answers_in_one_text(text):
    other = pasted.encode({"side": 1}, CODE)
    found = list(pasted.answers_in(f"mine:\n{text}\ntheirs:\n> {other}\n"))
    assert [pasted.decode(each, CODE) for each in found] == [VALUE, {"side": 1}]
    assert list(pasted.answers_in("none at all")) == []
    assert pasted.is_whole(text)
    assert not pasted.is_whole(text[:-1])
    assert not pasted.is_whole("no answer. Bob")


@settings(max_examples=200, deadline=None)
@given(st.floats(1.7e9, 1.8e9), st.floats(0, 0.93), st.floats(-0.05, 0.05), st.sampled_from([6, 20, 60]))
def test_two_sides_that_start_within_the_time_share_a_round(start_s, later, skew, within_s):
    """Their clocks differ by a little; what one sends in the shared round, the other watches."""
    skew_s = skew * within_s
    one = pasted_schedule.schedule(start_s, within_s)
    other = pasted_schedule.schedule(start_s + later * within_s + skew_s, within_s)
    shared = {turn.due_s for turn in one.turns} & {turn.due_s for turn in other.turns}
    assert shared
    assert shared <= set(one.near()) & set(other.near())
    for turn in other.turns:
        if turn.due_s in shared:
            assert other.watch_from_s <= turn.due_s + skew_s < turn.until_s
            assert other.watch_from_s <= turn.back_s + skew_s < turn.until_s
    assert start_s + 3 <= one.turns[0].due_s
    assert one.turns[-1].until_s - start_s < 2.5 * within_s + 3 + 1


def test_marks_are_the_same_on_both_sides_and_differ_between_probes():
    marks = [pasted_schedule.mark(CODE, kind, due_s) for kind in ("flow", "echo") for due_s in (60, 120)]
    assert marks[0] == pasted_schedule.mark("h9jaqda3", "flow", 60)
    assert len({mark.tag for mark in marks}) == 4
    assert all(len(mark.tag) == 8 and 49152 <= mark.source_port <= 65535 for mark in marks)
    assert pasted_schedule.mark("H9JA-QDA4", "flow", 60) != marks[0]
