"""Two hosts with no way between their operators but three lines that are carried by hand."""

import contextlib
import os
import pty
import sys

import pytest

from netdiag.lab.host import end_group
from netdiag.lab.process import until
from tests.lab.pasting import CODE, LINES, WITHIN, SideOf, both, completed

PORT = 8000
DROP = f"-p tcp --dport {PORT} -j DROP"


@pytest.fixture(scope="module")
def hosts(pair_lab):
    """Two hosts, and a server on the second."""
    one, two = pair_lab.host("one"), pair_lab.host("two")
    server = two.popen(["busybox", "httpd", "-f", "-p", str(PORT)])
    try:
        until(lambda: f":{PORT}" in two.exec(["ss", "-lnt"]).stdout, 10.0, "the server")
        yield one, two
    finally:
        end_group(server)


@pytest.fixture(scope="module")
def healthy(hosts):
    """Both reports and both answers of a run in which nothing is wrong."""
    one, two = hosts
    return both(one, two, one.address, f"{two.address}:{PORT}")


@contextlib.contextmanager
def rule(host, text, family="iptables"):
    chain, *rest = text.split()
    host.exec([family, "-w", "-I", chain, *rest])
    try:
        yield
    finally:
        host.exec([family, "-w", "-D", chain, *rest])


def test_nothing_is_wrong(healthy):
    reports, answers = healthy
    for report in reports:
        assert report.returncode == 0, report.stdout
        assert report.codes() == []
        assert "all 2 places" in report.findings("path.way")[0]["summary"]
    for answer in answers:
        assert len(answer.splitlines()) == 3
        assert max(map(len, answer.splitlines())) < 80


def test_a_rule_of_the_other_side_is_named_and_healed(hosts):
    one, two = hosts
    with rule(two, f"INPUT {DROP}"):
        reports, answers = both(one, two, one.address, f"{two.address}:{PORT}")
        for report in reports:
            assert report.returncode == 1
            (cause,) = report.document["causes"]
            assert (cause["code"], cause["host"], cause["confidence"]) == ("firewall.rule", "two", "proven")
            assert (cause["object"]["chain"], cause["object"]["number"]) == ("INPUT", 1)
        # From both answers alone, on a third day, the same.
        again = completed(one, one.address, f"{two.address}:{PORT}", *answers)
        assert again.cause("firewall.rule")["host"] == "two"
        (remedy,) = reports[0].document["causes"][0]["remedy"]
        assert remedy["host"] == "two"
        for command in remedy["commands"]:
            two.exec(["sh", "-c", command])
        try:
            reports, _ = both(one, two, one.address, f"{two.address}:{PORT}")
            assert [report.returncode for report in reports] == [0, 0], reports[0].stdout
        finally:
            for command in remedy["undo"]:
                two.exec(["sh", "-c", command])


def test_a_rule_of_the_own_side_and_one_of_the_other(hosts):
    one, two = hosts
    with rule(one, f"OUTPUT {DROP}"), rule(two, "INPUT -p tcp --dport 8000 -j REJECT"):
        (report, _), _ = both(one, two, one.address, f"{two.address}:{PORT}")
    first, second = report.document["causes"]
    assert (first["host"], first["object"]["chain"]) == ("one", "OUTPUT")
    assert (second["host"], second["object"]["chain"]) == ("two", "INPUT")
    assert {finding["check"] for finding in report.document["findings"] if finding["cause"] == 1} == {"path.ahead"}


def test_nobody_listens_beside_a_rule_for_another_port(hosts):
    one, two = hosts
    with rule(two, "INPUT -p tcp --dport 8002 -j DROP"):
        reports, _ = both(one, two, one.address, f"{two.address}:8001")
    for report in reports:
        (cause,) = report.document["causes"]
        assert (cause["code"], cause["host"]) == ("container.no-listener", "two")


def test_a_marked_datagram_to_the_port_of_tunnels(hosts):
    one, two = hosts
    ends = one.address, f"{two.address}:4789/udp", "--send-payload"
    with rule(two, "INPUT -p udp --dport 4789 -j DROP"):
        reports, _ = both(one, two, *ends)
    for report in reports:
        (cause,) = report.document["causes"]
        assert (cause["code"], cause["host"], cause["object"]["chain"]) == ("firewall.rule", "two", "INPUT")


def test_an_echo_that_a_rule_takes(hosts):
    one, two = hosts
    with rule(one, "INPUT -p icmp --icmp-type echo-reply -j DROP"):
        (report, _), _ = both(one, two, one.address, two.address)
    (cause,) = report.document["causes"]
    assert (cause["code"], cause["host"], cause["object"]["chain"]) == ("firewall.rule", "one", "INPUT")


def test_an_answer_that_a_rule_of_the_other_side_takes(hosts):
    one, two = hosts
    with rule(two, f"OUTPUT -p tcp --sport {PORT} -j DROP"):
        reports, _ = both(one, two, one.address, f"{two.address}:{PORT}")
    for report in reports:
        (cause,) = report.document["causes"]
        assert (cause["code"], cause["host"], cause["object"]["chain"]) == ("firewall.rule", "two", "OUTPUT")


FULL = """
import socket, time
server = socket.socket()
server.bind(("0.0.0.0", 8003))
server.listen(0)
calls = [socket.socket() for _ in range(3)]
for call in calls:
    call.setblocking(False)
    call.connect_ex(("127.0.0.1", 8003))
print("full", flush=True)
time.sleep(600)
"""


def test_a_server_that_takes_no_more_is_not_blamed_on_a_filter_that_goes_by_connections(hosts):
    """A made-up answer is stopped by what lets a real one pass: nothing is known, rather than something wrong."""
    one, two = hosts
    server = two.popen([sys.executable, "-c", FULL])
    try:
        assert server.stdout.readline() == "full\n"
        with (
            rule(two, "OUTPUT -p tcp --sport 8003 -j REJECT"),
            rule(two, "OUTPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"),
        ):
            reports, _ = both(one, two, one.address, f"{two.address}:8003")
    finally:
        end_group(server)
    for report in reports:
        assert report.codes() == [], report.document["causes"]
        assert [found["state"] for found in report.findings("path.loss")] == ["unknown"]


def test_a_port_that_the_network_between_drops(hosts, pair_lab):
    one, two = hosts
    pair_lab.break_("drop", host="fabric", proto="tcp", dport=PORT)
    reports, _ = both(one, two, one.address, f"{two.address}:{PORT}")
    for report in reports:
        (cause,) = report.document["causes"]
        # A few packets and one echo are too few to rule out chance.
        assert (cause["code"], cause["host"], cause["confidence"]) == ("underlay.filtered", None, "likely")
        assert (cause["object"]["from"], cause["object"]["to"]) == (one.address, two.address)


def test_a_network_between_that_drops_everything_is_not_blamed_on_a_filter(hosts, pair_lab):
    one, two = hosts
    # All of IP: without ARP nothing would leave, once the hosts have forgotten each other.
    pair_lab.break_("nft", host="fabric", family="bridge", hook="forward", rules="meta protocol ip drop")
    reports, _ = both(one, two, one.address, f"{two.address}:{PORT}")
    for report in reports:
        assert report.returncode == 1
        assert report.codes() == []
        (loss,) = report.findings("path.loss")
        assert loss["state"] == "unknown"
        assert "clocks" in loss["reason"]


def test_the_other_side_is_absent(hosts):
    one, two = hosts
    argv = ["netdiag", "diagnose", one.address, f"{two.address}:{PORT}", "--code", CODE, *WITHIN]
    result = two.exec(argv, check=False, timeout_s=40)
    assert result.returncode == 3, result.stdout
    assert f"nothing of {one.address} came to two" in result.stdout
    assert f"the answer of {one.address} is missing" in " ".join(result.stdout.split())
    assert CODE not in result.stdout


BAD = {
    "another code": (lambda own, other: (own, other), {"code": "H9JA-QDA4"}, "another code"),
    "cut": (lambda own, other: (own, other[: len(other) // 2]), {}, "is cut"),
    "a character": (
        lambda own, other: (own, other.replace(other[40], "b" if other[40] == "a" else "a")),
        {},
        "damaged",
    ),
    "another version": (lambda own, other: (own, other.replace("nd2:", "nd7:")), {}, "of version 7"),
    "its own": (lambda own, other: (own, own), {}, "this host's own"),
    "only one": (lambda own, other: (other,), {}, "give both"),
    "a file that is none": (lambda own, other: ("/no/such/file",), {}, "/no/such/file"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_pasted_wrongly_is_refused_in_one_line(bad, hosts, healthy):
    one, two = hosts
    _, answers = healthy
    spoil, options, says = BAD[bad]
    said = completed(one, one.address, f"{two.address}:{PORT}", *spoil(*answers), **options)
    assert isinstance(said, str), said.stdout
    assert says in said
    assert CODE not in said


def test_an_answer_of_another_flow_is_refused(hosts, healthy):
    one, two = hosts
    _, (own, other) = healthy
    said = completed(one, one.address, f"{two.address}:{PORT + 1}", own, other)
    assert "of another flow" in said


def test_an_answer_of_another_time_is_refused_after_the_rounds(hosts, healthy):
    one, two = hosts
    _, (_, old) = healthy
    side = SideOf(one, one.address, f"{two.address}:{PORT}")
    side.answer()
    assert side.paste(old) is None
    assert side.process.returncode == 2
    assert "shared no round" in side.last_line


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        (("10.71.0.1", "10.71.0.1:8000"), "both this host"),
        (("10.71.0.8", "10.71.0.9:8000"), "run it on both hosts"),
        (("10.71.0.1", "10.71.0.2:53/udp"), "--send-payload"),
        (("10.71.0.1", "10.71.0.2:65536"), "1 to 65535"),
        (("one/web", "10.71.0.2:80"), "no container, service or host of that name here"),
        (("10.71.0.1", "nosuchhost.invalid:80"), "give the other host's address"),
        (("10.71.0.1", "203.0.113.9:80"), "no route"),
    ],
)
def test_ends_that_cannot_be(ends, says, hosts):
    assert says in completed(hosts[0], *ends)


def test_at_a_terminal_a_wrong_paste_is_told_and_asked_for_again(hosts, healthy):
    one, two = hosts
    _, (_, old) = healthy
    other = SideOf(two, one.address, f"{two.address}:{PORT}")
    ours, theirs = pty.openpty()
    argv = ["netdiag", "diagnose", one.address, f"{two.address}:{PORT}", "--code", CODE, *WITHIN]
    process = one.popen(argv, stdin=theirs)
    os.close(theirs)
    try:
        answer = other.answer()
        os.write(ours, f"{old}\n".encode())
        os.write(ours, f"{answer}\n".encode())
        out, err = process.communicate(timeout=60)
    finally:
        end_group(process)
        os.close(ours)
        other.paste("")
    assert process.returncode == 0, err
    assert "shared no round" in err
    assert err.count("paste the three lines of") == 2
    assert LINES.search(err)
    assert "Nothing is broken" in out


def test_the_plan_of_either_side_does_nothing(hosts):
    one, two = hosts
    for host, side, echo in ((one, "source", (one, two)), (two, "destination", (two, one))):
        argv = ["netdiag", "diagnose", one.address, f"{two.address}:{PORT}", "--code", CODE, "--plan"]
        result = host.exec(argv, timeout_s=10)
        assert f"The {side}'s side of {one.address} to {two.address}, tcp/{PORT}, here." in result.stdout
        assert f"eth0 of {host.name}" in result.stdout
        assert f"two ICMP echoes from {echo[0].address} to {echo[1].address}" in result.stdout
        assert not LINES.search(result.stdout + result.stderr)
