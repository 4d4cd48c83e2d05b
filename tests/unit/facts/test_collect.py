from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, ClassVar

import pytest

from netdiag.errors import UsageError
from netdiag.facts import bundle as bundles
from netdiag.facts.assemble import replay
from netdiag.facts.context import Options
from netdiag.host import LocalHost
from netdiag.host.collect import collect, collect_bundle, local_options
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Answer, Request, WireError

SECRETS = ("env-geheim", "label-geheim", "SWMTKN-1-geheim", "proxy-geheim", "arg-geheim", "registry-geheim")
ANSWERS: dict[str, Any] = {
    "/version": {"Version": "24.0.7", "ApiVersion": "1.43"},
    "/info": {
        "Name": "h",
        "HttpProxy": "http://user:proxy-geheim@proxy:3128",
        "Labels": ["x=label-geheim"],
        "DockerRootDir": "/nonexistent",
        "Swarm": {"LocalNodeState": "active", "ControlAvailable": True, "JoinTokens": {"Worker": "SWMTKN-1-geheim"}},
        "RegistryConfig": {"Mirrors": ["https://u:registry-geheim@mirror/"]},
    },
    "/networks": [
        {"Id": "n" * 25, "Name": "net", "Driver": "bridge", "Scope": "local", "Labels": {"a": "label-geheim"}}
    ],
    "/containers/json?all=1": [
        {
            "Id": "c" * 64,
            "Names": ["/web"],
            "State": "running",
            "Command": "run --password arg-geheim",
            "Labels": {"my": "label-geheim", "com.docker.swarm.service.name": "svc"},
        }
    ],
    f"/containers/{'c' * 64}/json": {
        "Id": "c" * 64,
        "State": {"Pid": 77},
        "Config": {"Env": ["P=env-geheim"], "Cmd": ["arg-geheim"], "Labels": {"a": "label-geheim"}},
        "NetworkSettings": {"SandboxKey": "/run/docker/netns/abc"},
    },
    "/images/json": [{"Id": "sha256:1", "RepoTags": ["a:1", "<none>:<none>"], "Labels": {"a": "label-geheim"}}],
    "/nodes": [{"ID": "n1", "Spec": {"Labels": {"a": "label-geheim"}, "Role": "manager"}}],
    "/services": [
        {
            "ID": "s1",
            "Spec": {
                "Name": "svc",
                "Labels": {"a": "label-geheim"},
                "TaskTemplate": {"ContainerSpec": {"Image": "a:1", "Env": ["P=env-geheim"], "Args": ["arg-geheim"]}},
            },
        }
    ],
    "/tasks": [
        {"ID": "t1", "Spec": {"ContainerSpec": {"Image": "a:1", "Env": ["P=env-geheim"]}}, "Status": {"Err": "x"}}
    ],
}


class _Handler(BaseHTTPRequestHandler):
    hang: ClassVar[threading.Event | None] = None

    def do_GET(self) -> None:
        if self.hang is not None:
            self.hang.wait(20)
        body = json.dumps(ANSWERS.get(self.path, {"message": "no"})).encode()
        self.send_response(200 if self.path in ANSWERS else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True

    def handle_error(self, *args: Any) -> None:
        pass


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "docker.sock")
    server = _Server(path, _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield path
    server.shutdown()
    server.server_close()
    thread.join()


def test_secrets_reach_neither_facts_nor_bundle(engine: str) -> None:
    options = Options(docker_socket=engine)
    facts, bundle = collect_bundle(LocalHost(), ("engine",), now_s=1.0, options=options)
    value = facts.engine.value
    assert value.version == "24.0.7"
    assert value.http_proxy == "http://***@proxy:3128"
    (container,) = value.containers
    assert (container.service, container.pid, container.sandbox_path) == ("svc", 77, "/run/docker/netns/abc")
    assert value.cluster.tasks[0].error == "x"
    assert value.swarm_files_known
    assert value.images[0].tags == ("a:1",)
    kept = repr(facts) + repr(bundle) + bundles.encode(bundle).hex()
    for secret in SECRETS:
        assert secret not in kept
    assert replay(bundle) == facts


def test_a_bundle_gives_the_facts_that_were_collected(engine: str) -> None:
    facts, bundle = collect_bundle(LocalHost(), now_s=5.0, options=Options(docker_socket=engine))
    assert replay(bundles.decode(bundles.encode(bundle), "x")) == facts
    assert facts.links.value["host"]


def test_a_hanging_engine_costs_only_its_own_sections(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(_Handler, "hang", release)
    start_s = time.monotonic()
    try:
        facts = collect(LocalHost(), now_s=1.0, options=Options(docker_socket=engine))
    finally:
        release.set()
    assert time.monotonic() - start_s < 15
    assert facts.engine.absent.kind is AbsenceKind.TIMEOUT
    assert facts.engine.duration_s < 8
    assert facts.kernel.duration_s < 4
    assert facts.links.value["host"]
    assert facts.namespaces.value["host"]


class Silent:
    """A host that never answers some verbs, and refuses the others."""

    def __init__(self, *verbs: str) -> None:
        self.verbs = verbs
        self.release = threading.Event()

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        if any(request.verb in self.verbs for request in requests):
            self.release.wait(30)
        return [Answer(error=WireError(AbsenceKind.PERMISSION, f"{request.verb}: no")) for request in requests]


def test_the_deadline_holds_whatever_hangs() -> None:
    host = Silent("clock", "namespaces")
    start_s = time.monotonic()
    try:
        facts, bundle = collect_bundle(host, now_s=1.0, deadline_s=0.5)
    finally:
        host.release.set()
    assert time.monotonic() - start_s < 10
    assert facts.clock.absent.kind is AbsenceKind.TIMEOUT
    assert facts.links.absent.kind is AbsenceKind.TIMEOUT
    assert facts.identity.absent.kind is AbsenceKind.PERMISSION
    assert replay(bundle) == facts


def test_a_host_that_refuses_everything_gives_reasons() -> None:
    facts = collect(Silent(), now_s=1.0)
    for name in ("identity", "namespaces", "links", "firewall", "engine", "bird", "calico"):
        section = getattr(facts, name)
        assert section.value is None
        assert section.absent.text


class Nonsense:
    """A host whose answers have none of the expected members."""

    def ask(self, requests: Sequence[Request]) -> Sequence[Answer]:
        return [Answer(data={}) for _ in requests]


def test_nonsense_costs_its_section_only() -> None:
    facts = collect(Nonsense(), now_s=1.0)
    assert facts.identity.absent.kind is AbsenceKind.FAILED
    assert facts.identity.absent.text.startswith("section identity:")


def test_only_what_was_asked_for_and_what_it_needs() -> None:
    facts = collect(LocalHost(), ("addresses",), now_s=1.0)
    assert facts.addresses.value["host"]
    assert facts.links.absent.kind is AbsenceKind.NOT_PROBED


def test_an_unknown_section_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean routes"):
        collect(LocalHost(), ("route",), now_s=1.0)


def test_options_of_the_shell_hold_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ETCD_ENDPOINTS", "https://u:geheim@h:2379")
    monkeypatch.setenv("ETCD_PASSWORD", "geheim")
    monkeypatch.setenv("DOCKER_HOST", "unix:///x.sock")
    options = local_options()
    assert options.etcd == {"ETCD_ENDPOINTS": "https://h:2379"}
    assert options.docker_socket == "unix:///x.sock"
    monkeypatch.setenv("DOCKER_HOST", "tcp://h:2375")
    assert local_options().docker_socket is None
