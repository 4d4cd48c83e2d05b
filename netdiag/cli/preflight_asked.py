"""A preflight as it was asked for: its options, as a command, and as a bundle keeps them."""

from __future__ import annotations

from typing import Any

import msgspec

from netdiag.carrier.via import Via
from netdiag.checks.context import Options
from netdiag.model.report import Need
from netdiag.shell import shell_text
from netdiag.swarm.token import Token, TokenProblem


class _AskedWithoutToken(msgspec.Struct, frozen=True, kw_only=True):
    """`Asked` as a bundle holds it: which kind of token it was is said beside it."""

    managers: tuple[str, ...] = ()
    token_file: str = ""
    manager_role: bool = False
    initialise: bool = False
    advertise_address: str = ""
    data_path_address: str = ""
    data_path_port: int | None = None
    images: tuple[str, ...] = ()
    need: Need = Need.JOIN
    ignored: tuple[str, ...] = ()
    docker_socket: str = ""
    token_in_environment: bool = False
    vias: tuple[Via, ...] = ()
    peers: tuple[str, ...] = ()
    peers_file: str = ""


class Asked(_AskedWithoutToken, frozen=True, kw_only=True):
    """A preflight as it was asked for. The token's text is not in here."""

    token: Token | TokenProblem | None = None

    def options(self, managers: tuple[str, ...]) -> Options:
        """What the checks are told."""
        return Options(
            need=self.need,
            managers=managers,
            token=self.token,
            manager_role=self.manager_role,
            initialise=self.initialise,
            advertise_address=self.advertise_address,
            data_path_address=self.data_path_address,
            data_path_port=self.data_path_port,
            images=self.images,
        )

    def as_values(self) -> dict[str, Any]:
        """As JSON values, for a bundle. A token is in it as its digest, a public fact of its swarm."""
        values: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(self, token=None))
        kind = "token" if isinstance(self.token, Token) else "problem"
        return {**values, "token": None if self.token is None else {kind: msgspec.to_builtins(self.token)}}

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Asked:
        """The inverse of `as_values`. Raises msgspec.ValidationError for values that are none."""
        token = values.get("token") or {}
        plain = msgspec.convert({**values, "token": None}, _AskedWithoutToken)
        read: Token | TokenProblem | None = None
        if "token" in token:
            read = msgspec.convert(token["token"], Token)
        elif "problem" in token:
            read = msgspec.convert(token["problem"], TokenProblem)
        return cls(**{**{name: getattr(plain, name) for name in plain.__struct_fields__}, "token": read})

    def command(self) -> str:
        """The command as typed, without its token."""
        given: list[tuple[str, str | int]] = [("--manager", manager) for manager in self.managers]
        given += [("--role", "manager")] if self.manager_role else []
        given += [("--init", "")] if self.initialise else []
        given += [("--advertise-addr", self.advertise_address)] if self.advertise_address else []
        given += [("--data-path-addr", self.data_path_address)] if self.data_path_address else []
        given += [("--data-path-port", self.data_path_port)] if self.data_path_port else []
        given += [("--image", image) for image in self.images]
        given += [("--need", self.need.value)] if self.need is not Need.JOIN else []
        given += [("--via", str(via)) for via in self.vias]
        given += [("--peers", self.peers_file)] if self.peers_file else []
        given += [("--ignore", check) for check in self.ignored]
        return shell_text(["preflight", "swarm", *(str(word) for pair in given for word in pair if word != "")])
