"""The key of `netdiag listen` as text."""

import os

import pytest

from netdiag.participant.sealed import Key


@pytest.fixture
def key():
    return Key(os.urandom(16), os.urandom(32))


def test_it_survives_being_carried(key):
    text = key.text()
    assert len(text) <= 78
    for carried in (text, f"  {text}\r\n", text[:40] + "\n" + text[40:]):
        parsed = Key.parse(carried)
        assert (parsed.secret, parsed.fingerprint) == (key.secret, key.fingerprint)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda text: "", "is empty"),
        (lambda text: text[:-1], "67 characters"),
        (lambda text: text + "A", "69 characters"),
        (lambda text: text[:20] + ("A" if text[20] != "A" else "B") + text[21:], "wrong character"),
        (lambda text: text[:20] + "é" + text[21:], "not whole"),
        (lambda text: "ndk2-" + text[5:], "another version"),
        (lambda text: "SWMTKN-1-abc", "no key of netdiag listen"),
    ],
)
def test_a_slip_is_told_without_the_key(key, spoil, says):
    text = spoil(key.text())
    with pytest.raises(ValueError, match=says) as caught:
        Key.parse(text)
    assert not text or text[5:25] not in str(caught.value)


def test_it_is_never_shown_by_accident(key):
    shown = f"{key!r} {key} {[key]}"
    assert key.text() not in shown
    assert key.secret.hex() not in shown
    assert repr(key.secret) not in shown
