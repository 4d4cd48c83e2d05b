"""``netdiag diagnose --watch``: the diagnosis again and again, and a line for each change."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click
import msgspec

from netdiag.cli.diagnose_run import Run
from netdiag.errors import NetdiagError
from netdiag.model.report import Report
from netdiag.report.watch_lines import Seen, seen


class Watch:
    """A diagnosis that is repeated until somebody ends it."""

    def __init__(
        self, run: Run, source: str, destination: str, *, interval_s: float, send_payload: bool, lines: bool
    ) -> None:
        """``lines``: a report of JSON in each line instead of words."""
        self._run, self._ends, self._send_payload = run, (source, destination), send_payload
        self._interval_s, self._lines = interval_s, lines
        self._ended = threading.Event()
        self._last: Seen | None = None

    def go(self) -> int:
        """Repeat it until an interruption or SIGTERM; the exit code of the last state.

        Raises UsageError and CarrierError when the very first round does not come about.
        """
        code = 0
        with self._signals():
            while not self._ended.is_set():
                start_s = time.monotonic()
                report = self._round()
                code = report.exit_code()
                self._tell(report)
                self._ended.wait(max(0.0, start_s + self._interval_s - time.monotonic()))
        return code

    def _round(self) -> Report:
        try:
            return self._run.diagnose(*self._ends, send_payload=self._send_payload)[0]
        except NetdiagError as error:
            if self._last is None:
                raise
            return self._run.unknown(*self._ends, error)

    def _tell(self, report: Report) -> None:
        now = seen(report)
        if self._last is None or self._last.key != now.key:
            click.echo(msgspec.json.encode(report) if self._lines else now.line)
        self._last = now

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """The first signal ends it when the round is over, so that nothing is cut short; the second at once."""
        before = {number: signal.signal(number, self._end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        if self._ended.is_set():
            raise KeyboardInterrupt
        self._ended.set()
