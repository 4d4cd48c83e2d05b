"""--via, --peers and --plan of preflight and verify: what they take, and that a plan does nothing."""

import json

import msgspec
import pytest
from click.testing import CliRunner

from netdiag.carrier.via import parse_via
from netdiag.cli import cli
from netdiag.cli.two_sides_run import destination_of, members, named_peers, views_from_values
from netdiag.errors import UsageError
from netdiag.model.plan import Plan
from netdiag.model.two_sided import PeerView
from tests.unit.checks.factory import MANAGER, OTHER, engine, facts, manager_engine, member, node
from tests.unit.checks.two_sides import view

SSH = (parse_via("ssh"),)


def peers(tmp_path, text, vias=SSH):
    file = tmp_path / "peers"
    file.write_text(text)
    return named_peers(vias, str(file))


def test_one_peer_a_line(tmp_path):
    assert peers(tmp_path, "192.0.2.1\n\n# none\nw2 # the second\n192.0.2.1\n") == ("192.0.2.1", "w2")


def test_a_way_for_one_peer_names_it_too():
    assert named_peers((parse_via("w1=ssh:root@192.0.2.7"),), None) == ("w1",)


@pytest.mark.parametrize("text", ["", "# none\n", "a b\n"])
def test_a_file_that_is_no_list(tmp_path, text):
    with pytest.raises(UsageError, match="--peers"):
        peers(tmp_path, text)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        named_peers(SSH, str(tmp_path / "none"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="no text"):
        named_peers(SSH, str(tmp_path / "binary"))


def test_peers_without_a_way(tmp_path):
    with pytest.raises(UsageError, match="--via ssh"):
        peers(tmp_path, "w1\n", vias=())


def test_a_way_that_leads_to_one_host_is_that_host():
    assert destination_of((parse_via("ssh:root@w1"),)) == ("w1",)
    assert destination_of((parse_via("ssh"), parse_via("ssh:root@"))) == ()


def test_the_members_that_a_manager_and_a_worker_know():
    down = node("host-d", "192.0.2.44", state="down")
    assert members(facts(engine=manager_engine(node("host-c", OTHER), down))) == (OTHER,)
    assert members(facts(engine=engine(swarm=member()))) == (MANAGER,)
    assert members(facts()) == ()


@pytest.mark.parametrize(
    ("known", "manager", "named"),
    [
        ("", "[fd00::5]:2377", "fd00::5"),
        ("[fd00::5]", "", "fd00::5"),
        ("0.0.0.0", "192.0.2.30:2377", OTHER),
        ("0.0.0.0", "0.0.0.0:2377", "host-c"),
        ("::", "", "host-c"),
    ],
)
def test_a_member_s_address_as_the_list_of_nodes_has_it(known, manager, named):
    other = msgspec.structs.replace(node("host-c", OTHER), address=known, manager_address=manager)
    assert members(facts(engine=manager_engine(other))) == (named,)


def test_a_manager_s_address_as_a_worker_has_it():
    swarm = msgspec.structs.replace(member(), remote_managers=("[fd00::5]:2377", "0.0.0.0:2377", "192.0.2.30:2377"))
    assert members(facts(engine=engine(swarm=swarm))) == ("fd00::5", OTHER)


def test_a_plan_names_everybody_and_asks_nobody():
    words = ["preflight", "swarm", "--manager", "192.0.2.10", "--via", "ssh", "--plan"]
    done = CliRunner().invoke(cli, [*words, "--output", "json"])
    plan = msgspec.json.decode(done.stdout, type=Plan)
    assert done.exit_code == 0
    assert plan.changes == ()
    assert any("192.0.2.10" in one.where and "udp/7946" in one.what for one in plan.sends)
    shown = CliRunner().invoke(cli, words).stdout
    assert all(word in shown for word in ("SENT", "ARMED, for 30 s at most", "CHANGED", "nothing", "tcp/2377"))


def planned(*words):
    plan = CliRunner().invoke(cli, ["preflight", "swarm", "--manager", "192.0.2.10", "--via", "ssh", "--plan", *words])
    return plan.stdout


def test_a_plan_names_what_depends_on_the_engines():
    said = planned()
    assert said.count("where an engine has an encrypted network, 2 packets of IP protocol 50 (ESP)") == 2
    assert said.count("udp/4789, or the data-path port that an engine names") == 2
    said = planned("--data-path-port", "7789")
    assert said.count("2 datagrams to udp/7789;") == 2
    assert "4789" not in said


def test_a_worker_is_not_asked_for_the_managers_port():
    plan = CliRunner().invoke(
        cli, ["preflight", "swarm", "--manager", "192.0.2.10", "--via", "ssh", "--plan", "-o", "json"]
    )
    inward, outward = (one["what"] for one in json.loads(plan.stdout)["sends"][:2])
    assert ("tcp/2377" in inward, "tcp/2377" in outward) == (False, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["preflight", "swarm", "--manager", "192.0.2.10", "--plan"], "--via ssh"),
        (["verify", "swarm", "--plan"], "--via ssh"),
        (["verify", "swarm", "--via", "telnet"], "--via telnet"),
        (["verify", "swarm", "--peers", "x"], "--via ssh"),
        (["preflight", "swarm", "--manager", "a", "--manager", "b", "--via", "ssh:c", "--plan"], "leads to one host"),
    ],
)
def test_wrong_usage_is_one_line(words, said):
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 2 or isinstance(done.exception, UsageError)
    assert said in (done.output + str(done.exception))


def test_a_view_comes_back_from_a_bundle_as_it_was():
    one = view()
    assert views_from_values(msgspec.to_builtins((one, PeerView(given="w2", why_not="no ssh")))) == (
        one,
        PeerView(given="w2", why_not="no ssh"),
    )
    with pytest.raises(msgspec.ValidationError):
        views_from_values([{"given": 7}])
