"""Recorded outputs of the script as facts: the same as a live host's, and what is wrong costs only itself."""

import random
from pathlib import Path

import pytest

from netdiag.cli.analyze_run import analyze_bundle, analyze_pair
from netdiag.facts import bundle as format_
from netdiag.facts import script_bundle, script_engine
from netdiag.facts.assemble import replay
from netdiag.facts.script_sections import NOT_ASKED, PURPOSE
from netdiag.host.bundles import read_bundle
from netdiag.model.engine import SwarmState
from netdiag.model.facts import HOST, SECTIONS, AbsenceKind, Backend, FeatureState

RECORDED = Path(__file__).with_name("data") / "script"
MANAGER, BUSYBOX = RECORDED / "manager.txt", RECORDED / "worker-busybox.txt"


@pytest.fixture(scope="module")
def manager():
    return replay(read_bundle(MANAGER))


@pytest.fixture(scope="module")
def worker():
    return replay(read_bundle(BUSYBOX))


def decoded(text):
    return script_bundle.decode(text.encode(), "theirs.txt")


def test_what_the_script_gives_and_what_not(manager):
    absent = {name: getattr(manager, name).absent for name in SECTIONS if getattr(manager, name).value is None}
    assert {name: reason.text for name, reason in absent.items()} == NOT_ASKED
    assert {reason.kind for reason in absent.values()} == {AbsenceKind.NOT_PROBED}


def test_the_host(manager):
    identity = manager.identity.value
    assert (identity.hostname, identity.distribution_id, identity.is_root) == ("manager", "debian", True)
    assert len(identity.machine_id) == 32
    assert manager.clock.value.unix_s == manager.collected_s == 1795567164.5
    features = manager.kernel.value.features
    assert features["vxlan"].state is FeatureState.BUILTIN
    assert features["ip_vs"].state is FeatureState.MISSING


def test_the_network(manager):
    eth0 = next(link for link in manager.links.value[HOST] if link.name == "eth0")
    assert (eth0.kind, eth0.mtu_bytes, eth0.up) == ("veth", 1500, True)
    assert "10.71.0.1/24" in [row.cidr for row in manager.addresses.value[HOST]]
    hops = next(row.next_hops for row in manager.routes.value[HOST] if row.destination == "10.99.0.0/16")
    assert [(hop.gateway, hop.weight) for hop in hops] == [("10.71.0.7", 2), ("10.71.0.8", 1)]
    assert [rule.action for rule in manager.rules.value[HOST] if rule.priority == 32764] == ["unreachable"]
    assert manager.sysctls.value[HOST]["net.ipv4.ip_forward"] == "1"
    assert ("tcp", 2377, "dockerd") in [(one.protocol, one.port, one.process) for one in manager.sockets.value[HOST]]
    assert manager.conntrack.value[HOST].maximum == 262144


def test_overlay_namespaces_are_named_by_their_network(manager):
    assert list(manager.namespaces.value) == [HOST, "overlay:app", "overlay:ingress"]
    vxlan = next(link.vxlan for link in manager.links.value["overlay:app"] if link.vxlan)
    assert (vxlan.vni, vxlan.port) == (4097, 4789)
    remote = [row for row in manager.fdb.value["overlay:app"] if row.vtep]
    assert {(row.vtep, row.on_self, row.states) for row in remote} == {("10.71.0.2", True, ("permanent",))}


def test_the_firewall(manager):
    found = manager.firewall.value[HOST]
    assert [one.backend for one in found] == [Backend.IPTABLES_NFT, Backend.NFT_NATIVE]
    assert "-A FORWARD -j DOCKER-USER" in found[0].text
    assert {boot.name: boot.enabled for boot in manager.firewall_saved.value.boot}["firewalld"] is False


def test_the_engine(manager):
    engine = manager.engine.value
    assert (engine.version, engine.swarm.state, engine.swarm.is_manager) == (
        "20.10.24+dfsg1",
        SwarmState.ACTIVE,
        True,
    )
    assert (engine.swarm.cluster_id, engine.swarm.data_path_port) == ("qh6inxnijlfk6b4m0xhsei5x2", 4789)
    assert [(node.hostname, node.address, node.state) for node in engine.cluster.nodes] == [
        ("manager", "10.71.0.1", "ready"),
        ("worker", "10.71.0.2", "ready"),
    ]
    networks = {network.name: network for network in engine.networks}
    assert (networks["app"].vnis, networks["app"].encrypted) == ((4097,), False)
    assert networks["sec"].encrypted
    assert {peer.address for peer in networks["app"].peers} == {"10.71.0.1", "10.71.0.2"}
    assert networks["app"].virtual_addresses == {"web": "10.0.1.2"}
    (container,) = [one for one in engine.containers if one.running]
    assert (container.service, container.image) == ("web", "netdiag/busybox:lab")
    assert container.pid > 0
    assert {end.network for end in container.networks} == {"app", "ingress"}
    (image,) = engine.images
    assert (image.tags, image.digests) == (("netdiag/busybox:lab",), ())
    assert {task.state for task in engine.cluster.tasks if task.desired == "running"} == {"running"}
    assert engine.swarm_files_known
    assert "docker-state.json" in engine.swarm_files


def test_a_bundle_of_it_can_be_written_and_read_again(manager):
    made = read_bundle(MANAGER)
    again = format_.decode(format_.encode(made), "again")
    assert again.purpose == PURPOSE
    assert again.arguments == {"complete": True, "made_s": 1795567162, "made_on": "worker-1"}
    assert replay(again) == manager


def test_busybox_says_what_it_cannot_and_the_rest_is_there(worker):
    assert "of what kind devices are" in worker.links.partial[HOST].text
    assert next(link for link in worker.links.value[HOST] if link.name == "eth0").mtu_bytes == 1500
    assert "10.71.0.2/24" in [row.cidr for row in worker.addresses.value[HOST]]
    assert "10.71.0.0/24" in [row.destination for row in worker.routes.value[HOST]]
    assert worker.firewall.value[HOST][0].backend is Backend.IPTABLES_NFT
    assert not worker.engine.value.swarm.is_manager
    assert list(worker.namespaces.value) == [HOST]


def without(text, *names):
    """The text without some blocks, as an admin may cut the script."""
    for name in names:
        begin = text.index(f"@begin {name}\n")
        end = text.index("\n@end", begin)
        text = text[:begin] + text[text.index("\n", end + 1) + 1 :]
    return text


def test_a_block_that_was_cut_out_is_missing_alone():
    text = without(MANAGER.read_text(), "identity", "namespaces", "command nft -a list ruleset")
    facts = replay(decoded(text))
    assert facts.identity.absent.kind is AbsenceKind.NOT_PROBED
    assert "10.71.0.1/24" in [row.cidr for row in facts.addresses.value[HOST]]
    # The rules of iptables are known by its own tool.
    assert [one.backend for one in facts.firewall.value[HOST]] == [Backend.IPTABLES_NFT]


def test_without_root_the_firewall_is_absent_with_its_reason():
    text = without(MANAGER.read_text(), "command nft -a list ruleset", "command iptables-save -c")
    text += "@begin command nft -a list ruleset\n!Operation not permitted (you must be root)\n@end 1\n"
    facts = replay(decoded(text))
    assert facts.firewall.absent.kind is AbsenceKind.PERMISSION
    assert "not permitted" in facts.firewall.absent.text


def test_a_part_that_was_not_asked_for_is_absent_with_its_reason():
    text = MANAGER.read_text().replace("@parts swarm firewall", "@parts firewall")
    facts = replay(decoded(text))
    assert facts.engine.absent.text == "the script was made without --swarm"
    assert facts.firewall.value


def test_an_engine_that_is_not_there_or_does_not_answer():
    start, rest = MANAGER.read_text().split("@begin docker version", 1)
    late = start + "@begin docker version\n!the engine did not answer within 10 s\n@end timeout\n@complete\n"
    assert replay(decoded(late)).engine.absent.kind is AbsenceKind.TIMEOUT
    refused = "@begin docker version\n!permission denied while trying to connect\n@end 1\n@complete\n"
    assert replay(decoded(start + refused)).engine.absent.kind is AbsenceKind.PERMISSION
    assert rest


def test_secrets_that_slipped_through_do_not_enter():
    token = "SWMTKN-1-" + "a" * 50 + "-" + "b" * 25
    text = MANAGER.read_text().replace("|# default zone", f"|# {token} https://user:secret@example.net/", 1)
    assert token in text
    packed = format_.encode(decoded(text))
    again = format_.decode(packed, "x")
    assert token not in str(again)
    assert "secret" not in str(again)


@pytest.mark.parametrize("seed", range(24))
def test_damage_never_raises(seed):
    """Bytes that change, lines that go, an end that is missing: facts come out, and every check could read them."""
    seeded = random.Random(seed)
    lines = MANAGER.read_text().split("\n")
    for _ in range(seeded.randrange(1, 40)):
        at = seeded.randrange(4, len(lines))
        kind = seeded.randrange(4)
        if kind == 0:
            del lines[at]
        elif kind == 1:
            lines.insert(at, lines[seeded.randrange(len(lines))])
        elif lines[at]:
            position = seeded.randrange(len(lines[at]))
            lines[at] = lines[at][:position] + seeded.choice('\0{[|@"9é') + lines[at][position + 1 :]
    text = "\n".join(lines[: seeded.randrange(5, len(lines))] if seed % 2 else lines)
    made = decoded(text)
    facts = replay(made)
    assert facts.schema
    assert format_.decode(format_.encode(made), "x").answers.keys() == made.answers.keys()
    said = [one.reason for one in analyze_bundle(made).findings if "the check itself failed" in (one.reason or "")]
    assert said == []
    for one, other in ((made, read_bundle(BUSYBOX)), (read_bundle(BUSYBOX), made)):
        pair = analyze_pair(one, other, names=("mine", "theirs"), now_s=1795567200.0)
        assert [one.reason for one in pair.findings if "the check itself failed" in (one.reason or "")] == []


def test_objects_of_docker_survive_a_damaged_neighbour():
    text = '{"a": 1,\n  "b": 2}\n{"broken": ,\n  "x": 1}\n{"c": 3}\nnoise\n'
    assert script_engine.objects_of(text) == [{"a": 1, "b": 2}, {"c": 3}]
