"""``--via``: how other hosts are reached, the same for every command that has peers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from netdiag.carrier.via import Via

F = TypeVar("F", bound=Callable[..., Any])


def _vias(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[Via, ...]:
    if not values:
        return ()  # what parses them is not loaded for a command that has none
    from netdiag.carrier.via import parse_via

    return tuple(map(parse_via, values))


def via_option(command: F) -> F:
    """Give a command the option ``--via``, as the parameter ``vias`` (a tuple of `netdiag.carrier.via.Via`).

    `netdiag.carrier.via.vias_for` says which of them is for which peer.
    """
    option = click.option(
        "--via",
        "vias",
        multiple=True,
        metavar="[PEER=]ssh[:USER@HOST]",
        callback=_vias,
        help="How a peer is reached, for what only the other side can say; repeat it for several peers.",
    )
    return option(command)
