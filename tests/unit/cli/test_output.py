import io
import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from netdiag.cli import output
from tests.unit.report.samples import clean, failing

ROOT = Path(__file__).parents[3]


@click.command()
@output.output_option
def command(output, verbose):
    from netdiag.cli.output import emit

    emit(failing(), output, verbose=verbose)


@pytest.mark.parametrize(
    ("arguments", "begin"),
    [
        ([], "This node will not join:"),
        (["--output", "json"], "{"),
        (["-o", "junit"], "<?xml"),
        (["--output=html"], "<!doctype html>"),
    ],
)
def test_every_form(arguments, begin):
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith(begin)
    assert result.stdout.endswith("\n")
    assert result.stderr == ""


def test_json_is_one_document():
    json.loads(CliRunner().invoke(command, ["-o", "json"]).stdout)


def test_verbose():
    assert "The kernel has vxlan" not in CliRunner().invoke(command, []).stdout
    assert "The kernel has vxlan" in CliRunner().invoke(command, ["-v"]).stdout


def test_another_form_is_wrong_usage():
    assert CliRunner().invoke(command, ["-o", "yaml"]).exit_code == 2


def test_without_a_terminal_it_is_100_columns_and_no_colour():
    text = CliRunner().invoke(command, []).stdout
    assert "\x1b" not in text
    assert output.columns() == 100


SCRIPT = "from netdiag.cli.output import emit\nfrom tests.unit.report.samples import failing\nemit(failing())"


def on_a_terminal(**environment):
    """What a terminal of 72 columns gets to see."""
    main, side = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdout=side,
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "72", "TERM": "xterm", "PYTHONUTF8": "1"} | environment,
    ) as process:
        os.close(side)
        seen = b""
        while True:
            try:
                more = os.read(main, 65536)
            except OSError:  # the terminal's other end is closed
                break
            if not more:
                break
            seen += more
        assert process.wait(20) == 0
    os.close(main)
    return seen.decode().replace("\r\n", "\n")


def test_on_a_terminal_it_is_coloured_and_as_wide():
    text = on_a_terminal()
    assert "\x1b[1;31m" in text
    assert "Answers: join: no" in text
    lines = text.splitlines()
    commands = [line for line in lines if "iptables -I INPUT 5" in line]
    assert commands
    assert all("-j ACCEPT" in line for line in commands)


def test_no_color_is_honoured():
    text = on_a_terminal(NO_COLOR="1")
    # Bold is no colour; rich keeps it.
    assert "\x1b[1;31m" not in text
    assert "31m" not in text


def test_a_locale_without_utf8_gets_ascii():
    script = SCRIPT.replace(
        "emit(failing())", "import msgspec; emit(msgspec.structs.replace(failing(), command='a → b'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        check=True,
    )
    assert b"netdiag a -> b" in done.stdout


def test_a_pipe_gets_no_colour_even_if_a_variable_asks_for_it():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, cwd=ROOT, env=os.environ | {"FORCE_COLOR": "1"}, check=True
    )
    assert b"\x1b" not in done.stdout


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _a_usual_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")


def test_progress_shows_after_a_while_and_leaves_nothing():
    stream = Terminal()
    with output.Progress("asking the manager", stream=stream, delay_s=0.01) as progress:
        time.sleep(0.15)
        progress.update("asking the peer")
        time.sleep(0.25)
    text = stream.getvalue()
    assert "| asking the manager" in text
    assert "asking the peer" in text
    assert text.endswith("\r\x1b[K")


def test_progress_of_quick_work_writes_nothing():
    stream = Terminal()
    with output.Progress("x", stream=stream):
        pass
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("stream", "term"), [(io.StringIO(), "xterm"), (Terminal(), "dumb")])
def test_progress_needs_a_terminal(stream, term, monkeypatch):
    monkeypatch.setenv("TERM", term)
    with output.Progress("x", stream=stream, delay_s=0):
        time.sleep(0.02)
    assert stream.getvalue() == ""


def fail_after_a_while():
    time.sleep(0.05)
    raise KeyError


def test_progress_ends_when_the_work_fails():
    stream = Terminal()
    with pytest.raises(KeyError), output.Progress("x", stream=stream, delay_s=0):
        fail_after_a_while()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_a_clean_report_exits_with_0():
    assert (clean().exit_code(), failing().exit_code()) == (0, 1)
