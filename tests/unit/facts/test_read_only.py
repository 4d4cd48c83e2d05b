"""Collecting loads no kernel module: on a host where nothing is loaded, nothing that could load is asked."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Any

import pytest

from netdiag.facts.context import Options
from netdiag.host.collect import collect
from netdiag.model.facts import AbsenceKind, Facts, FeatureState
from netdiag.model.wire import Answer, Request, WireError

RELEASE = "5.15.0-1"
ALL_LOADABLE = "".join(
    f"kernel/net/{name}.ko: \n"
    for name in ("ip_tables", "ip6_tables", "nf_tables", "nft_compat", "ip_set", "vxlan", "bridge", "ip_vs", "ipip")
)


class FakeHost:
    """A host that says what it is told, and remembers what it was asked."""

    def __init__(
        self, files: dict[str, str], commands: dict[str, str] | None = None, config: str | None = None
    ) -> None:
        self.files = {"/proc/sys/kernel/osrelease": RELEASE, **files}
        self.commands = commands or {}
        self.config = config
        self.asked: list[Request] = []

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        self.asked.extend(requests)
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Answer:
        params = request.params
        if request.verb == "files":
            found = {
                path: self.files[path] for path in (glob.rstrip("*") for glob in params["globs"]) if path in self.files
            }
            return Answer(data={"files": found, "errors": {}, "truncated": []})
        if request.verb == "file" and self.config is not None:
            return Answer(data={"bytes": gzip.compress(self.config.encode())})
        if request.verb == "namespaces":
            row = {"inode": 1, "own": True, "paths": ["/proc/1/ns/net"], "pids": [1], "pid_count": 1}
            return Answer(data={"namespaces": [row], "unreadable": 0})
        if request.verb == "netlink-dump":
            return Answer(data={"messages": b"", "interrupted": False})
        if request.verb == "command" and " ".join(params["argv"]) in self.commands:
            out = self.commands[" ".join(params["argv"])]
            return Answer(data={"stdout": out, "stderr": "", "code": 0, "program": ""})
        if request.verb == "create-device":
            return Answer(data={"created": True, "errno": 0, "text": ""})
        return Answer(error=WireError(AbsenceKind.MISSING, f"{request.verb}: not here"))

    def could_load(self) -> list[Request]:
        return [request for request in self.asked if request.params.get("may_load")]


def facts(host: FakeHost, **options: Any) -> Facts:
    return collect(host, now_s=1.0, options=Options(**options))


def modules(loaded: str = "") -> dict[str, str]:
    return {
        "/proc/modules": loaded,
        f"/lib/modules/{RELEASE}/modules.dep": ALL_LOADABLE,
        f"/lib/modules/{RELEASE}/modules.builtin": "kernel/x.ko\n",
    }


def test_nothing_is_loaded_nothing_is_asked() -> None:
    host = FakeHost(modules())
    found = facts(host)
    assert host.could_load() == []
    assert found.kernel.value.features["nf_tables"].state is FeatureState.LOADABLE
    assert found.firewall.value == {"host": ()}
    assert found.firewall.partial == {}


def test_no_evidence_at_all_and_modules_may_exist() -> None:
    host = FakeHost({"/proc/modules": ""})
    found = facts(host)
    assert host.could_load() == []
    assert found.kernel.value.features["vxlan"].state is FeatureState.UNKNOWN
    assert found.firewall.absent.kind is AbsenceKind.WITHHELD
    assert "--load-modules" in found.firewall.absent.text


def test_a_kernel_that_cannot_load_modules_is_asked_for_devices() -> None:
    host = FakeHost({})
    found = facts(host)
    assert {request.verb for request in host.could_load()} == {"create-device"}
    assert found.kernel.value.features["vxlan"].state is FeatureState.LOADED


def test_modules_switched_off_for_good_count_as_none() -> None:
    host = FakeHost({"/proc/modules": "", "/proc/sys/kernel/modules_disabled": "1\n"})
    facts(host)
    assert {request.verb for request in host.could_load()} == {"create-device"}


def test_only_protocol_zero_is_asked_without_leave() -> None:
    host = FakeHost(modules())
    facts(host)
    assert {request.params["protocol"] for request in host.asked if request.verb == "netlink-dump"} == {0}


def test_legacy_tables_that_exist_are_listed() -> None:
    host = FakeHost(
        {**modules("ip_tables 1 0\n"), "/proc/net/ip_tables_names": "filter\n"},
        {
            "iptables --version": "iptables v1.8.9 (nf_tables)\n",
            "iptables-legacy-save -c": "*filter\n[1:2] -A INPUT -j DROP\nCOMMIT\n",
        },
    )
    found = facts(host)
    assert [request.params["argv"] for request in host.could_load()] == [["iptables-legacy-save", "-c"]]
    (rules,) = found.firewall.value["host"]
    assert "DROP" in rules.text


def test_an_old_iptables_is_legacy_by_its_plain_name() -> None:
    host = FakeHost(
        {**modules("ip_tables 1 0\n"), "/proc/net/ip_tables_names": "filter\n"},
        {"iptables --version": "iptables v1.4.21\n", "iptables-save -c": "*filter\nCOMMIT\n"},
    )
    assert facts(host).firewall.value["host"][0].backend.value == "iptables-legacy"


def test_a_missing_tool_is_a_reason_not_an_empty_answer() -> None:
    host = FakeHost({**modules("ip_tables 1 0\n"), "/proc/net/ip_tables_names": "filter\n"})
    found = facts(host)
    assert found.firewall.value is None
    assert "iptables-legacy-save" in found.firewall.absent.text or "command" in found.firewall.absent.text


def test_loaded_nf_tables_may_be_asked() -> None:
    host = FakeHost(modules("nf_tables 1 0\n"))
    facts(host)
    assert [request.verb for request in host.could_load()] == ["netlink-dump"]


def test_the_operator_may_allow_it() -> None:
    host = FakeHost(modules())
    facts(host, load_modules=True)
    assert {"netlink-dump", "command"} <= {request.verb for request in host.could_load()}


@pytest.mark.parametrize(
    ("config", "loaded", "state", "evidence"),
    [
        ("CONFIG_VXLAN=y\n", "", FeatureState.BUILTIN, "CONFIG_VXLAN=y in /proc/config.gz"),
        ("CONFIG_VXLAN=m\n", "vxlan 1 0\n", FeatureState.LOADED, "vxlan in /proc/modules"),
        ("CONFIG_VXLAN=m\n", "", FeatureState.LOADABLE, "vxlan in modules.dep"),
        ("CONFIG_OTHER=y\n", "", FeatureState.LOADABLE, "modules.dep"),
    ],
)
def test_feature_states(config: str, loaded: str, state: FeatureState, evidence: str) -> None:
    found = facts(FakeHost(modules(loaded), config=config)).kernel.value.features["vxlan"]
    assert found.state is state
    assert evidence in found.evidence


def test_a_module_that_is_configured_and_not_installed_is_missing() -> None:
    found = facts(FakeHost(modules(), config="CONFIG_DUMMY=m\n")).kernel.value.features["dummy"]
    assert found.state is FeatureState.MISSING
    assert "CONFIG_DUMMY=m" in found.evidence


def test_a_feature_is_as_good_as_its_worst_part() -> None:
    found = facts(FakeHost(modules(), config="CONFIG_CRYPTO_GCM=y\n")).kernel.value.features["gcm"]
    assert found.state is FeatureState.MISSING
    assert "SEQIV" in found.evidence


def test_damaged_configuration_is_as_good_as_none() -> None:
    host = FakeHost(modules())
    host.config = None
    assert facts(host).kernel.value.features["tun"].state is FeatureState.MISSING
