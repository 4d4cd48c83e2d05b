"""The run of ``netdiag diagnose``."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from netdiag.carrier import ssh
from netdiag.carrier.stream import StreamCarrier
from netdiag.errors import UsageError
from netdiag.host import LocalHost
from netdiag.host.collect import local_options
from netdiag.host.diagnose import Diagnosis, diagnose
from netdiag.host.diagnose_parties import Planned, Planner
from netdiag.host.drive import Carrier
from netdiag.model.report import Report
from netdiag.path.names import parse_end
from netdiag.report.assemble import build_report


class Run:
    """One call of the command; the ways to other hosts that it opened close with it."""

    def __init__(self, via: str, load_modules: bool, progress: Callable[[str], None]) -> None:
        """Raises UsageError for a ``--via`` that is none."""
        if via and via != "ssh" and not via.startswith("ssh:"):
            raise UsageError(f"--via {via}: ssh, ssh:HOST or ssh:USER@HOST")
        self._via, self._progress = via, progress
        self._options = local_options(load_modules=load_modules)
        self._opened: list[StreamCarrier] = []
        self.timings_s: dict[str, float] = {}
        """How long each part took."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for carrier in self._opened:
            carrier.close()

    def plan(self, source: str, destination: str) -> Planned:
        """The way and who takes part, and nothing done. Raises UsageError and CarrierError as `diagnose`."""
        planner = Planner(LocalHost(), self._open, time.time(), self._options, self._progress)
        return planner.plan(parse_end(source, what="SOURCE"), parse_end(destination, what="DESTINATION"))

    def diagnose(self, source: str, destination: str) -> tuple[Report, Diagnosis]:
        """Diagnose a flow and make its report.

        Raises:
            UsageError: An end that cannot be understood.
            CarrierError: The other host cannot be reached.
        """
        began, start_s = dt.datetime.now(dt.UTC), time.monotonic()
        done = diagnose(
            LocalHost(),
            parse_end(source, what="SOURCE"),
            parse_end(destination, what="DESTINATION"),
            open_peer=self._open,
            now_s=began.timestamp(),
            options=self._options,
            progress=self._progress,
        )
        self.timings_s.update(done.timings_s)
        report = build_report(
            command=" ".join(["diagnose", source, destination, *([f"--via {self._via}"] if self._via else [])]),
            host=done.way.source.host,
            started=began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            duration_s=round(time.monotonic() - start_s, 3),
            found=done.found,
        )
        return report, done

    def _open(self, name: str) -> Carrier:
        if not self._via:
            raise UsageError(f"{name} is another host: --via ssh[:USER@HOST] says how to reach it")
        start_s = time.monotonic()
        carrier = ssh.connect(self._via.partition(":")[2] or name, name=name)
        self._opened.append(carrier)
        self.timings_s[f"ssh to {name}"] = time.monotonic() - start_s
        return carrier
