"""The run of ``netdiag diagnose --code``: two operators, no way between their hosts, and three lines carried by hand."""

from __future__ import annotations

import datetime as dt
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from netdiag.carrier import pasted
from netdiag.carrier.pasted_schedule import schedule
from netdiag.cli.output import Progress
from netdiag.errors import UsageError
from netdiag.host import LocalHost
from netdiag.host.collect import local_options
from netdiag.host.pasted_plan import HalfPlan, plan_half
from netdiag.host.pasted_side import HalfRun
from netdiag.model.half import Half
from netdiag.model.report import Report, Step
from netdiag.path.half_alone import alone
from netdiag.path.half_join import Joined, check_fits, joined, service_found
from netdiag.path.half_wire import half_from_value, half_value, shrunk
from netdiag.path.names import Typed, is_address, parse_end
from netdiag.report.assemble import build_report
from netdiag.report.wording import visible
from netdiag.shell import shell_text

_NEW = "new"
_MOST_BYTES = 64 << 10
_MOST_SHOWN = 60
_TRIES = 3


class PastedRun:
    """One call of the command."""

    def __init__(
        self, source: str, destination: str, *, code: str, within_s: int, load_modules: bool, progress: Progress
    ) -> None:
        """Take what was typed. Raises UsageError for a code that cannot be one, and ends that are none."""
        self._typed = (source, destination)
        self._ends = parse_end(source, what="SOURCE"), parse_end(destination, what="DESTINATION")
        self._code = pasted.new_code() if code == _NEW else code
        pasted.checked_code(self._code)
        if code == _NEW:
            _say(f"run this on the other host, within {within_s} s: {self._command(self._code)}")
        self._within_s, self._progress = within_s, progress
        self._options = local_options(load_modules=load_modules)
        self._began, self._start_s = dt.datetime.now(dt.UTC), time.monotonic()

    def plan(self) -> HalfPlan:
        """This host's part, and nothing done."""
        return plan_half(
            LocalHost(),
            *self._ends,
            now_s=self._began.timestamp(),
            options=self._options,
            progress=self._progress.update,
        )

    def diagnose(self, given: Sequence[str], *, send_payload: bool) -> tuple[Report, Joined]:
        """Take part, show this side's answer, and take the other's.

        Args:
            given: What ``--pasted`` was given: answers, files that hold them, or ``-``.
            send_payload: Send a datagram, whoever listens for it.

        Raises:
            UsageError: An answer that is none or does not fit, and what `plan_half` and `HalfRun.observe` raise.
        """
        early = [half for text in given for half in self._halves(_early(text))]
        if len(early) > 1:
            own, other = self._two(early)
            return self._report(joined(own, other), own.host, of=(own, other))
        if early and not any(_is_file(text) for text in given):
            raise UsageError(
                "--pasted: that is one answer, and nothing is known here of the run that it belongs to: give both, this"
                " host's own as well; or give a file or - (standard input), which is read when the rounds are over"
            )
        _refuse_datagrams(self._ends[1], send_payload=send_payload)
        plan = self.plan()
        run = HalfRun(
            plan,
            self._code,
            schedule(time.time(), self._within_s),
            progress=self._progress.update,
        )
        half = run.half(run.observe())
        with self._progress.paused():
            _say("give these three lines to the other side:")
            click.echo(self._encoded(half), err=True)
            other_half = self._other(half, given, plan.away)
        done = alone(half, plan.away) if other_half is None else joined(half, other_half)
        steps = [] if other_half is not None else [self._later(half)]
        return self._report(done, half.host, steps, of=(half, other_half) if other_half is not None else (half,))

    def _encoded(self, half: Half) -> str:
        """The fullest form that three lines hold."""
        values = [half_value(one) for one in shrunk(half)]
        value = next((each for each in values if pasted.room_left(each) >= 0), [])
        if not value:
            raise UsageError("this side's answer does not fit three lines: give shorter names, or addresses")
        return pasted.encode(value, self._code)

    # --- the other side's answer ---

    def _other(self, own: Half, given: Sequence[str], away: str) -> Half | None:
        if given:
            halves = [half for text in given for half in self._halves(_text_of(text))]
            if not halves:
                raise _unreadable(given[0], f"it holds no answer of {away}")
            found = next((half for half in halves if half.side is not own.side), halves[0])
            check_fits(own, found)
            return found
        if not sys.stdin.isatty():
            _say(f"the answer of {away} is missing: --pasted FILE, or - for standard input, takes it")
            return None
        return self._asked(own, away)

    def _asked(self, own: Half, away: str) -> Half | None:
        """From the terminal. A wrong one is told, and asked for again."""
        for _ in range(_TRIES):
            _say(f"paste the three lines of {away} here (an empty line goes on without them):")
            text = _typed_in()
            if not text.strip():
                return None
            try:
                half = self._half(text)
                check_fits(own, half)
            except UsageError as error:
                _say(str(error))
                continue
            return half
        return None

    def _halves(self, text: str) -> list[Half]:
        return [self._half(one) for one in pasted.answers_in(text)]

    def _half(self, text: str) -> Half:
        value = pasted.decode(text, self._code)
        try:
            return half_from_value(value)
        except ValueError:
            raise UsageError(
                "the pasted answer cannot be understood: use the same version of netdiag on both hosts"
            ) from None

    def _two(self, halves: Sequence[Half]) -> tuple[Half, Half]:
        """Both sides' answers, the first as this host's own."""
        if len(halves) > 2:
            raise UsageError(f"--pasted: {len(halves)} answers were given: give one of either side")
        wanted = [end.name if is_address(end.name) else None for end in self._ends]
        for half in halves:
            known = half.flow.source, half.flow.destination
            same = all(name in (None, address) for name, address in zip(wanted, known, strict=True))
            if not same or half.flow.port != self._ends[1].port:
                raise UsageError(f"the pasted answer is of another flow: {half.flow.text()}")
        return halves[0], halves[1]

    # --- what comes of it ---

    def _report(
        self, done: Joined, host: str, steps: Iterable[Step] = (), *, of: Sequence[Half]
    ) -> tuple[Report, Joined]:
        report = build_report(
            command=self._command("CODE").removeprefix("netdiag "),
            host=host,
            started=self._began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            duration_s=round(time.monotonic() - self._start_s, 3),
            found=(*done.found, *service_found(of, self._ends[1].name)),
            next_steps=tuple(steps),
        )
        return report, done

    def _command(self, code: str) -> str:
        return shell_text(["netdiag", "diagnose", *self._typed, "--code", code])

    def _later(self, half: Half) -> Step:
        return Step(
            host=half.host,
            command=f"{self._command('CODE')} --pasted FILE",
            why="with both sides' answers in FILE it says where between them the flow is lost",
        )


def _refuse_datagrams(destination: Typed, *, send_payload: bool) -> None:
    if destination.port is not None and destination.protocol == "udp" and not send_payload:
        raise UsageError(
            f"{destination.text}: whether somebody listens there who does not expect it cannot be asked from here:"
            " --send-payload sends a marked datagram (a VXLAN header of a network that nobody has, to udp/4789)"
        )


def _is_file(text: str) -> bool:
    return text == "-" or not any(pasted.answers_in(text))


def _early(given: str) -> str:
    """What is there before the rounds: an answer itself, or what a file holds already; pipes are read later.

    Raises UsageError for what is neither an answer nor a file.
    """
    if any(pasted.answers_in(given)):
        return given
    if given == "-":
        return ""
    try:
        path = Path(given)
        if not path.exists():
            raise _unreadable(given, "it is neither an answer nor a file")
        return _text_of(given) if path.is_file() else ""
    except (OSError, ValueError):
        raise _unreadable(given, "it is neither an answer nor a file") from None


def _text_of(given: str) -> str:
    """What a file or standard input holds; an answer as it is. Raises UsageError."""
    if any(pasted.answers_in(given)):
        return given
    try:
        if given == "-":
            return sys.stdin.buffer.read(_MOST_BYTES).decode("utf-8", "replace")
        with Path(given).open("rb") as file:
            return file.read(_MOST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise _unreadable(given, error.strerror or "it cannot be read") from None


def _unreadable(given: str, why: str) -> UsageError:
    shown = given if len(given) <= _MOST_SHOWN else f"{given[:_MOST_SHOWN]}…"
    return UsageError(
        f"--pasted {visible(shown)}: {why}: give the other side's answer (it begins with nd2:), a file, or - for"
        " standard input"
    )


def _typed_in() -> str:
    """Lines until an answer is whole; an empty one before it begins, two of them later, or the end of input end it."""
    text, blank = "", 0
    while len(text) < _MOST_BYTES and not pasted.is_whole(text):
        line = sys.stdin.readline(_MOST_BYTES)
        blank = 0 if line.strip() else blank + 1
        begun = any(pasted.answers_in(text))
        if not line or blank > int(begun):
            break
        text += line
    return text


def _say(text: str) -> None:
    click.echo(f"netdiag: {text}", err=True)
