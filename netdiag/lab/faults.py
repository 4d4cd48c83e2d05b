"""Faults that can be injected into a running lab: the registry, and what a fault is.

A fault is a row of `FAULTS`: a name, help, parameters with their kinds, and a function that does it. That function
records with each command how it is undone (`Work.run`), so that the undo is data: another process can run it, and half
a fault is undone when its second command fails. A new fault is one such row, in the module of its kind.
"""

from __future__ import annotations

import enum
import re
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import Protocol

import msgspec

from netdiag.errors import LabError, UsageError
from netdiag.lab import engine
from netdiag.lab.host import Host, Result
from netdiag.lab.process import end
from netdiag.lab.state import Step, StepKind
from netdiag.lab.topology import Topology, no_such

Values = Mapping[str, str]
"""Checked parameters; one that was not given and has no default is not in it."""


class Site(Protocol):
    """What a fault needs of a lab."""

    @property
    def topology(self) -> Topology:
        """What the lab was made from."""
        ...

    @property
    def hosts(self) -> Mapping[str, Host]:
        """The hosts by name, without the fabric."""
        ...

    def host(self, name: str) -> Host:
        """A host or the fabric; LabError with the nearest names."""
        ...


class Kind(enum.Enum):
    """What a parameter accepts; the value is how `lab faults` writes it."""

    HOST = "HOST"
    TEXT = "TEXT"
    NUMBER = "NUMBER"
    PORTS = "PORT[,PORT…]"
    ADDRESS = "ADDRESS"
    PREFIX = "ADDRESS[/BITS]"
    CHOICE = "one of"
    ARGUMENTS = "ARGUMENTS"


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a fault."""

    name: str
    kind: Kind
    help: str
    default: str | None = None
    required: bool = False
    choices: tuple[str, ...] = ()
    low: int = 0
    high: int = 2**31

    @property
    def accepts(self) -> str:
        """What it accepts, in words."""
        if self.kind is Kind.CHOICE:
            return "|".join(self.choices)
        return f"{self.low}..{self.high}" if self.kind is Kind.NUMBER else self.kind.value


HOST = Parameter("host", Kind.HOST, "where: a host of the lab, or fabric", required=True)
INTERFACE = Parameter("interface", Kind.TEXT, "the host's interface", default="eth0")


class Fault(msgspec.Struct, frozen=True):
    """One row of the registry."""

    name: str
    help: str
    parameters: tuple[Parameter, ...]
    apply: Callable[[Work, Values], None]
    example: str
    """Parameters with which it works in topology swarm2; the tests inject exactly this."""


class Work:
    """A fault in the making: runs commands and keeps what undoes them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._undo: list[Step] = []

    @property
    def undo(self) -> tuple[Step, ...]:
        """What undoes it so far, the last command's undo first."""
        return tuple(reversed(self._undo))

    def run(
        self,
        host: str,
        argv: Sequence[str],
        *,
        undo: Sequence[str] = (),
        only_if: Sequence[str] = (),
        stdin: str = "",
        undo_stdin: str = "",
    ) -> Result:
        """Run a command in a host and remember the one that undoes it.

        Args:
            host: where.
            argv: the command; LabError if it fails.
            undo: the command that undoes it; none for a command that changes nothing.
            only_if: a command that fails when there is nothing to undo any more (somebody healed it by hand).
            stdin: what the command reads.
            undo_stdin: what its undo reads.
        """
        result = self.site.host(host).exec(argv, stdin=stdin)
        if undo:
            self._undo.append(Step(host=host, argv=tuple(undo), stdin=undo_stdin, only_if=tuple(only_if)))
        return result

    def on_undo(self, step: Step) -> None:
        """Remember a step of undoing for something that was done otherwise than by a command."""
        self._undo.append(step)


def run_steps(site: Site, steps: Sequence[Step]) -> None:
    """Undo: every step is tried, the first error is raised at the end."""
    errors: list[LabError] = []
    for step in steps:
        try:
            _run_step(site.host(step.host), step)
        except LabError as error:
            errors.append(error)
    if errors:
        raise errors[0]


def _run_step(host: Host, step: Step) -> None:
    match step.kind:
        case StepKind.START_ENGINE:
            engine.start(host)
        case StepKind.STOP_DAEMON:
            running = host.daemon(step.argv[0])
            # It takes its rules with it when it ends, so that is waited for.
            end([running] if running is not None else [], how=signal.SIGTERM)
            host.path(step.argv[0]).unlink(missing_ok=True)
        case StepKind.RUN:
            if not step.only_if or host.exec(step.only_if, check=False).returncode == 0:
                host.exec(step.argv, stdin=step.stdin)


def registry() -> dict[str, Fault]:
    """Every fault there is, by name."""
    from netdiag.lab import (
        faults_engine,
        faults_fabric,
        faults_firewall,
        faults_firewall_programs,
        faults_kernel,
        faults_path,
        faults_sshd,
    )

    modules = (
        faults_firewall,
        faults_firewall_programs,
        faults_fabric,
        faults_path,
        faults_kernel,
        faults_engine,
        faults_sshd,
    )
    rows = [row for module in modules for row in module.FAULTS]
    return {row.name: row for row in sorted(rows, key=lambda row: row.name)}


def parse(name: str, given: Mapping[str, str]) -> tuple[Fault, Values]:
    """Check a fault's name and parameters.

    Raises:
        UsageError: names the value and what is accepted.
    """
    known = registry()
    if name not in known:
        raise UsageError(no_such("fault", name, list(known)))
    fault = known[name]
    parameters = {parameter.name: parameter for parameter in fault.parameters}
    for key in given:
        if key not in parameters:
            raise UsageError(f"fault {name}: " + no_such("parameter", key, list(parameters)))
    values: dict[str, str] = {}
    for parameter in fault.parameters:
        text = given.get(parameter.name, parameter.default)
        if text is not None:
            values[parameter.name] = _checked(f"fault {name}: {parameter.name}={text}", parameter, text)
        elif parameter.required:
            raise UsageError(f"fault {name}: {parameter.name}={parameter.accepts} is missing ({parameter.help})")
    return fault, values


def parse_words(words: Sequence[str]) -> dict[str, str]:
    """``key=value`` words into parameters; UsageError names a word that is not one."""
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(f"{word!r} is not key=value")
        if key in given:
            raise UsageError(f"{key} is given twice")
        given[key] = value
    return given


_PORTS = re.compile(r"\d{1,5}(:\d{1,5})?(,\d{1,5}(:\d{1,5})?)*")


def _checked(what: str, parameter: Parameter, text: str) -> str:
    """The value as it is used; UsageError that begins with ``what`` if it is not accepted."""
    problem: str | None = None
    try:
        match parameter.kind:
            case Kind.NUMBER:
                problem = None if parameter.low <= int(text) <= parameter.high else "out of range"
            case Kind.CHOICE:
                problem = None if text in parameter.choices else "unknown"
            case Kind.PORTS:
                ports = [int(port) for port in re.split("[,:]", text)] if _PORTS.fullmatch(text) else [0]
                problem = None if all(0 < port < 65536 for port in ports) else "no port"
            case Kind.ADDRESS:
                ip_address(text)
            case Kind.PREFIX:
                _prefix(text)
            case Kind.ARGUMENTS:
                shlex.split(text)
            case Kind.HOST | Kind.TEXT:
                problem = None if text else "empty"
    except ValueError as error:
        problem = str(error)
    if problem is not None:
        raise UsageError(f"{what}: {problem}; accepted is {parameter.accepts}")
    return text


def _prefix(text: str) -> None:
    if text != "default":
        ip_network(ip_interface(text).network)


def describe(name: str | None = None) -> list[tuple[str, ...]]:
    """Rows for a reader: every fault with its help, or one fault's parameters; UsageError if there is no such fault."""
    known = registry()
    if name is None:
        return [(fault.name, fault.help) for fault in known.values()]
    if name not in known:
        raise UsageError(no_such("fault", name, list(known)))
    return [
        (each.name, each.accepts, "required" if each.required else each.default or "", each.help)
        for each in known[name].parameters
    ]
