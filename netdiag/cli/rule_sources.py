"""Whose rules a command is about: this host's, a bundle's, or those of saved files."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from netdiag.cli.packet_options import named_namespace
from netdiag.errors import UsageError

if TYPE_CHECKING:
    from netdiag.firewall.standing import Standing
    from netdiag.model.facts import Facts

F = TypeVar("F", bound=Callable[..., Any])
_MOST_BYTES = 256 << 20
_OPTIONS = (
    click.option(
        "--rules",
        "files",
        multiple=True,
        metavar="FILE",
        type=click.Path(path_type=Path, allow_dash=True),
        help="Saved rules instead of this host's: iptables-save, ip6tables-save, ipset save, nft list ruleset; - is standard input.",
    ),
    click.option("--bundle", type=click.Path(path_type=Path), metavar="FILE", help="The rules of a bundle's host."),
    click.option(
        "--netns",
        metavar="NAME|PATH",
        help="Of this network namespace: overlay:NETWORK, container:NAME, a mount's name or a path.",
    ),
    click.option("--container", metavar="NAME", help="Of the network namespace of this container."),
    click.option("--load-modules", is_flag=True, help="Go on where reading this host's rules loads a kernel module."),
)


class Source(NamedTuple):
    """The rules, whose they are, and the host's facts where it is known."""

    standing: Standing
    subject: str
    facts: Facts | None
    namespace: str


def source_options(command: F) -> F:
    """Add every option that says whose rules; the command hands them to `read_source`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def read_source(
    files: tuple[Path, ...], bundle: Path | None, netns: str | None, container: str | None, *, load_modules: bool
) -> Source:
    """The rules that the options name. Raises UsageError."""
    from netdiag.model.facts import HOST

    if files and bundle is not None:
        raise click.UsageError("--rules and --bundle each name the rules: give one of them")
    named, other = named_namespace({"container": container, "netns": netns})
    if files:
        from netdiag.firewall.standing import of_files

        if named or other:
            raise click.UsageError("--rules says whose rules: --container and --netns name those of this host")
        standing = of_files([(str(file), read_text(file)) for file in files])
        return Source(standing, ", ".join(map(str, files)), None, HOST)
    from netdiag.facts.assemble import replay
    from netdiag.facts.namespace_names import of_container, of_namespace
    from netdiag.facts.standing_rules import SECTIONS, standing_of
    from netdiag.host import LocalHost
    from netdiag.host.bundles import read_bundle
    from netdiag.host.collect import collect, local_options

    if bundle is not None:
        facts = replay(read_bundle(bundle))
    else:
        asked = local_options(load_modules=load_modules)
        facts = collect(LocalHost(), SECTIONS, now_s=time.time(), options=asked)
    namespace = of_container(facts, named) if named else of_namespace(facts, other) if other else HOST
    host = facts.identity.value.hostname if facts.identity.value is not None else "this host"
    subject = host if namespace == HOST else f"{namespace} on {host}"
    return Source(standing_of(facts, namespace), subject, facts, namespace)


def read_text(file: Path) -> str:
    """A file, or standard input for ``-``. Raises UsageError for one that cannot be read, or is far too large."""
    try:
        with contextlib.ExitStack() as stack:
            stream = sys.stdin.buffer if str(file) == "-" else stack.enter_context(file.open("rb"))
            data = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise UsageError(f"{file}: more than {_MOST_BYTES >> 20} MiB; no rule set is so large")
    return data.decode("utf-8", errors="replace").removeprefix("\ufeff")
