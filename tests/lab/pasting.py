"""Runs both sides of `netdiag diagnose --code` on two lab hosts, and carries the three lines over."""

import contextlib
import json
import os
import re
import signal
import subprocess
import threading

import msgspec

from netdiag.lab.process import until
from netdiag.model.report import Report
from tests.lab.asking import Answered

CODE = "H9JA-QDA3"
WITHIN = ("--within", "6")
LINES = re.compile(r"nd2:[^.]*\.")
PATIENCE_S = 60.0


class SideOf:
    """One running side, which reads the other's answer from standard input."""

    def __init__(self, host, source, destination, *words, code=CODE):
        self.host = host
        argv = ["netdiag", "diagnose", source, destination, "--code", code, *WITHIN, "--pasted", "-", *words]
        self.process = host.popen([*argv, "--output", "json"], stdin=subprocess.PIPE)
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.said += line

    def answer(self):
        """Its three lines."""
        until(
            lambda: LINES.search(self.said) or self.process.poll() is not None, PATIENCE_S, f"{self.host.name}'s answer"
        )
        found = LINES.search(self.said)
        assert found, self.said
        return found[0]

    def paste(self, text):
        """Give it the other's, and read its report; its one line on standard error where there is none."""
        try:
            # Not communicate(), which would read standard error beside the thread that does.
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.write(text)
                self.process.stdin.close()
            self.process.wait(PATIENCE_S)
            out = self.process.stdout.read()  # a report fits the pipe
            self._reader.join(10)
        finally:
            self._end()
        assert "Traceback" not in self.said
        if not out:
            return None
        document = json.loads(out)
        return Answered(document, self.process.returncode, out, self.said)

    def _end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(10)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()

    @property
    def last_line(self):
        return self.said.splitlines()[-1]


def both(one, two, source, destination, *words):
    """The reports of both sides, each with the other's answer; and the two answers."""
    sides = [SideOf(host, source, destination, *words) for host in (one, two)]
    answers = [side.answer() for side in sides]
    return [side.paste(text) for side, text in zip(sides, reversed(answers), strict=True)], answers


def completed(host, source, destination, *answers, code=CODE):
    """The report from both answers, with nothing sent; else the one line of why there is none."""
    words = [word for answer in answers for word in ("--pasted", answer)]
    argv = ["netdiag", "diagnose", source, destination, "--code", code, *words, "--output", "json"]
    result = host.exec(argv, check=False)
    assert "Traceback" not in result.stderr
    if result.returncode == 2:
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        return result.stderr
    document = json.loads(result.stdout)
    msgspec.convert(document, Report)
    return Answered(document, result.returncode, result.stdout, result.stderr)
