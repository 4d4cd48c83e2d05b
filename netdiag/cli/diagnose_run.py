"""The run of ``netdiag diagnose``."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import struct
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import click
import msgspec

from netdiag.carrier.listen import open_listen
from netdiag.carrier.via import PeerCarrier, Via, open_carrier
from netdiag.cli import listen_run
from netdiag.cli.key_input import read_key
from netdiag.cli.output import Progress
from netdiag.errors import CarrierError, NetdiagError, NoWay
from netdiag.host import LocalHost
from netdiag.host.collect import local_options
from netdiag.host.diagnose import Diagnosis, diagnose
from netdiag.host.diagnose_parties import Planned
from netdiag.host.diagnose_plan import Planner
from netdiag.host.drive import Carrier
from netdiag.model.found import Found
from netdiag.model.report import Answer, Need, Report, State, Subject
from netdiag.path.names import parse_end
from netdiag.report.assemble import build_report

_MEANINGLESS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, struct.error)
"""What reading an answer raises that has another shape than any should have."""


class Run:
    """One call of the command; the ways to other hosts that it opened serve all its diagnoses, and close with it."""

    def __init__(
        self, vias: Sequence[Via], load_modules: bool, progress: Progress, *, user: tuple[int, int] | None = None
    ) -> None:
        """``user``: as whom attempts are made; see `netdiag.facts.context.Options`."""
        self._vias, self._progress = tuple(vias), progress
        self._options = msgspec.structs.replace(local_options(load_modules=load_modules), user=user)
        self._opened: dict[str, PeerCarrier] = {}
        self.timings_s: dict[str, float] = {}
        """How long each part took."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for carrier in self._opened.values():
            carrier.close()

    def plan(self, source: str, destination: str) -> Planned:
        """The way and who takes part, and nothing done. Raises UsageError and CarrierError as `diagnose`."""
        with self._understanding():
            update = self._progress.update
            planner = Planner(LocalHost(), self._open, time.time(), self._options, update, at_once=self._quiet())
            return planner.plan(parse_end(source, what="SOURCE"), parse_end(destination, what="DESTINATION"))

    def diagnose(self, source: str, destination: str, *, send_payload: bool = False) -> tuple[Report, Diagnosis]:
        """Diagnose a flow and make its report. ``send_payload``: see `netdiag.host.diagnose.diagnose`.

        Raises:
            UsageError: An end that cannot be understood.
            CarrierError: The other host cannot be reached, or no more.
        """
        began, start_s = dt.datetime.now(dt.UTC), time.monotonic()
        for name in [name for name, carrier in self._opened.items() if carrier.lost]:
            self._opened.pop(name).close()  # in an earlier diagnosis, or since
        with self._understanding():
            done = diagnose(
                LocalHost(),
                parse_end(source, what="SOURCE"),
                parse_end(destination, what="DESTINATION"),
                open_peer=self._open,
                now_s=began.timestamp(),
                options=self._options,
                send_payload=send_payload,
                at_once=self._quiet(),
                progress=self._progress.update,
            )
        self.timings_s.update(done.timings_s)
        report = self._report(source, destination, began, start_s, done.way.source.host, done.found)
        return report, done

    @contextlib.contextmanager
    def _understanding(self) -> Iterator[None]:
        """What goes wrong in the block since a peer is gone, or answers what has no meaning, is one CarrierError."""
        try:
            yield
        except NetdiagError:
            self._check_connections()
            raise
        except _MEANINGLESS as error:
            self._check_connections()
            if not self._opened or os.environ.get("NETDIAG_DEBUG"):
                raise
            names = ", ".join(self._opened)
            text = f"{type(error).__name__}; NETDIAG_DEBUG=1 shows where"
            raise CarrierError(
                f"{names}: an answer cannot be understood ({text}): use the same version of netdiag on both hosts"
            ) from error
        self._check_connections()

    def _check_connections(self) -> None:
        """Raise CarrierError for one that broke: what was not answered would be taken for what is not there."""
        for name, carrier in self._opened.items():
            if carrier.lost:
                raise CarrierError(f"{name}: {carrier.lost} before the diagnosis was done: try again")

    def unknown(self, source: str, destination: str, error: NetdiagError) -> Report:
        """The report of a diagnosis that did not come about, for whoever goes on all the same."""
        found = Found(
            check="path.ends",
            state=State.UNKNOWN,
            subject=Subject(host=source, peer=destination),
            summary=f"whether {source} reaches {destination}",
            answers={Need.TRAFFIC: Answer.UNKNOWN},
            reason=str(error),
        )
        return self._report(source, destination, dt.datetime.now(dt.UTC), time.monotonic(), source, (found,))

    def _as_user(self) -> list[str]:
        user = self._options.user
        return [f"--user {user[0]}:{user[1]}"] if user is not None else []

    def _report(
        self, source: str, destination: str, began: dt.datetime, start_s: float, host: str, found: Sequence[Found]
    ) -> Report:
        return build_report(
            command=" ".join(
                ["diagnose", source, destination, *(f"--via {via}" for via in self._vias), *self._as_user()]
            ),
            host=host,
            started=began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            duration_s=round(time.monotonic() - start_s, 3),
            found=found,
            about=("path.attempt", "path.filters", "path.another"),
        )

    def _quiet(self) -> bool:
        """Whether no way to a host asks the operator for anything: `listen` has a key carried by hand."""
        return all(via.way != "listen" for via in self._vias)

    def _open(self, name: str) -> Carrier:
        if name in self._opened:
            return self._opened[name]
        via = self._way_to(name)
        start_s = time.monotonic()
        self._progress.update(f"reaching {name}")
        carrier = self._listen(via.where, name) if via.way == "listen" else open_carrier(via, name)
        self._opened[name] = carrier
        self.timings_s[f"{via.way} to {name}"] = time.monotonic() - start_s
        if carrier.restriction:
            click.echo(f"{name}: {carrier.restriction}", err=True)
        return carrier

    def _way_to(self, name: str) -> Via:
        """The way that was named for a host, else the one that was named for all."""
        own = next((via for via in self._vias if via.peer == name), None)
        found = own or next((via for via in self._vias if not via.peer), None)
        if found is None:
            raise NoWay(f"{name} is another host: --via ssh[:USER@HOST] says how to reach it")
        return found

    def _listen(self, where: str, name: str) -> PeerCarrier:
        """With a key that is carried by hand. Its line goes to standard error: standard output is the report's."""
        with self._progress.paused():
            carrier = open_listen(
                where,
                read_key=read_key,
                confirm=listen_run.confirm,
                show=lambda line: click.echo(line, err=True),
                say=listen_run.say,
            )
        carrier.name = name
        return carrier
