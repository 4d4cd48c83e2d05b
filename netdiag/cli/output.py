"""Where a report goes: ``--output``, colour and width, and a sign of life while it is made.

Standard output carries one document and nothing else; everything that is not the document goes to standard error.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TextIO, TypeVar

import click

from netdiag.model.report import Report

FORMATS = ("table", "json", "junit", "html")
_NO_TERMINAL_COLUMNS = 100

F = TypeVar("F", bound=Callable[..., Any])


def output_option(command: F) -> F:
    """Give a command the options ``--output`` and ``--verbose``, as the parameters ``output`` and ``verbose``."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="Show what is in order as well, with all evidence."),
        click.option(
            "-o",
            "--output",
            type=click.Choice(FORMATS),
            default=FORMATS[0],
            show_default=True,
            help="The form of the report on standard output.",
        ),
    ):
        command = option(command)
    return command


def columns() -> int:
    """The width to lay text out for: the terminal's, or 100 where standard output is none."""
    if not sys.stdout.isatty():
        return _NO_TERMINAL_COLUMNS
    return shutil.get_terminal_size((80, 24)).columns


def emit(report: Report, output: str = "table", *, verbose: bool = False, drawing: Sequence[str] = ()) -> None:
    """Print the report on standard output in one of `FORMATS`; the caller exits with ``report.exit_code()``.

    ``drawing`` is shown below the table's first lines; other forms carry the same as evidence.
    """
    if output == "table":
        _print_table(report, verbose=verbose, drawing=drawing)
    else:
        click.echo(_encoded(report, output), nl=False)


def _encoded(report: Report, output: str) -> bytes:
    from netdiag.report import document, html, junit

    encoders: dict[str, Callable[[Report], bytes]] = {
        "json": document.encode,
        "junit": junit.render,
        "html": html.render,
    }
    return encoders[output](report)


def _print_table(report: Report, *, verbose: bool, drawing: Sequence[str]) -> None:
    from netdiag.report.table import render

    ascii_only = not _is_utf8(sys.stdout)
    text = render(report, width=columns(), verbose=verbose, ascii_only=ascii_only, drawing=drawing)
    if not sys.stdout.isatty():
        click.echo(text.plain, nl=False)
        return
    from rich.console import Console

    # rich itself honours NO_COLOR and TERM=dumb.
    Console(file=sys.stdout, width=columns(), highlight=False).print(text, soft_wrap=True)


def _is_utf8(stream: TextIO) -> bool:
    try:
        return codecs.lookup(stream.encoding or "ascii").name == "utf-8"
    except LookupError:
        return False


class Progress:
    """A line on standard error that says what takes so long, for as long as the block runs.

    Nothing is written unless the stream is a terminal and the work takes longer than ``delay_s``; the line is gone
    when the block ends.
    """

    def __init__(self, what: str, *, stream: TextIO | None = None, delay_s: float = 0.3) -> None:
        self._what = what
        self._stream = sys.stderr if stream is None else stream
        self._delay_s = delay_s
        self._quiet = False
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def update(self, what: str) -> None:
        """Say something else from now on."""
        self._what = what

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """No sign of life for as long as the block runs: it speaks to the operator itself."""
        was, self._quiet = self._quiet, True
        if self._thread is not None:
            self._write("\r\x1b[K")
        try:
            yield
        finally:
            self._quiet = was

    def __enter__(self) -> Self:
        if self._stream.isatty() and os.environ.get("TERM") != "dumb":
            self._thread = threading.Thread(target=self._show, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._thread:
            self._thread.join()

    def _show(self) -> None:
        if self._done.wait(self._delay_s):
            return
        for sign in itertools.cycle("|/-\\"):
            # Cut to the terminal, or the carriage return would not reach the line's begin.
            room = shutil.get_terminal_size((80, 24)).columns - 3
            if not self._quiet:
                self._write(f"\r\x1b[K{sign} {self._what[:room]}")
            if self._done.wait(0.1):
                break
        self._write("\r\x1b[K")

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
