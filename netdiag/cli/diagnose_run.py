"""The run of ``netdiag diagnose``."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable

from netdiag.carrier import ssh
from netdiag.carrier.stream import StreamCarrier
from netdiag.errors import UsageError
from netdiag.host import LocalHost
from netdiag.host.collect import local_options
from netdiag.host.diagnose import diagnose
from netdiag.host.drive import Carrier
from netdiag.model.report import Report
from netdiag.path.names import parse_end
from netdiag.report.assemble import build_report


def run_diagnose(
    source: str, destination: str, *, via: str, load_modules: bool, progress: Callable[[str], None]
) -> tuple[Report, dict[str, float]]:
    """Diagnose a flow and make its report; beside it how long each part took, in seconds.

    Raises:
        UsageError: An end that cannot be understood, or a ``--via`` that is none.
        CarrierError: The other host cannot be reached.
    """
    if via and via != "ssh" and not via.startswith("ssh:"):
        raise UsageError(f"--via {via}: ssh, ssh:HOST or ssh:USER@HOST")
    began, start_s = dt.datetime.now(dt.UTC), time.monotonic()
    opened: list[StreamCarrier] = []
    took: dict[str, float] = {}

    def open_peer(name: str) -> Carrier:
        if not via:
            raise UsageError(f"{name} is another host: --via ssh[:USER@HOST] says how to reach it")
        connecting_s = time.monotonic()
        carrier = ssh.connect(via.partition(":")[2] or name, name=name)
        opened.append(carrier)
        took[f"ssh to {name}"] = time.monotonic() - connecting_s
        return carrier

    try:
        done = diagnose(
            LocalHost(),
            parse_end(source, what="SOURCE"),
            parse_end(destination, what="DESTINATION"),
            open_peer=open_peer,
            now_s=began.timestamp(),
            options=local_options(load_modules=load_modules),
            progress=progress,
        )
    finally:
        for carrier in opened:
            carrier.close()
    report = build_report(
        command=" ".join(["diagnose", source, destination, *([f"--via {via}"] if via else [])]),
        host=done.way.source.host,
        started=began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        duration_s=round(time.monotonic() - start_s, 3),
        found=done.found,
    )
    return report, {**took, **done.timings_s}
