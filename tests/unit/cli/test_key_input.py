"""Where the key of `netdiag listen` comes from."""

import io
import os

import pytest

from netdiag.cli.key_input import read_key
from netdiag.errors import UsageError
from netdiag.participant.sealed import Key

KEY = Key(b"s" * 16, b"f" * 32).text()


@pytest.fixture
def stdin(monkeypatch):
    def give(text):
        monkeypatch.setattr("sys.stdin", io.StringIO(text))

    return give


@pytest.mark.parametrize(
    "text", [KEY, f"{KEY}\n", f"NETDIAG_KEY={KEY}\n", f"NETDIAG_KEY={KEY} netdiag listen --dial a:1"]
)
def test_from_the_environment_and_out_of_it(monkeypatch, text):
    monkeypatch.setenv("NETDIAG_KEY", text)
    assert read_key().text() == KEY
    assert "NETDIAG_KEY" not in os.environ


def test_from_a_file_or_standard_input(monkeypatch, tmp_path, stdin):
    monkeypatch.setenv("NETDIAG_KEY", "something else")
    (tmp_path / "key").write_text(KEY + "\n")
    assert read_key(str(tmp_path / "key")).text() == KEY
    assert "NETDIAG_KEY" not in os.environ
    stdin(KEY + "\n")
    assert read_key("-").text() == KEY


@pytest.mark.parametrize(("text", "says"), [("", "is empty"), ("NETDIAG_KEY=", "is empty"), (KEY[:-4], "not whole")])
def test_what_is_no_key(stdin, text, says):
    stdin(text)
    with pytest.raises(UsageError, match=says) as caught:
        read_key("-")
    assert KEY[5:25] not in str(caught.value)


def test_nobody_to_ask(monkeypatch, stdin):
    monkeypatch.delenv("NETDIAG_KEY", raising=False)
    stdin("")
    with pytest.raises(UsageError, match="no key: set NETDIAG_KEY"):
        read_key()
