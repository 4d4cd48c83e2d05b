"""What a container's resolver would ask, and what is made of the answers."""

import pytest

from netdiag.facts.name_lookup import asked_names, gather_name, read_resolver
from netdiag.model.facts import AbsenceKind
from netdiag.model.wire import Answer, WireError

CONF = "# comment\nnameserver 127.0.0.11\nnameserver 192.0.2.53 ; second\nsearch one.example two.example\noptions ndots:2\n"
SILENT = Answer(error=WireError(AbsenceKind.TIMEOUT, "no answer"))


def test_the_files_are_read_as_the_c_library_reads_them():
    found = read_resolver(CONF, "127.0.0.1 localhost # me\n::1 localhost\n10.0.1.9 db database\nnonsense db\n")
    assert (found.servers, found.search, found.ndots) == (
        ("127.0.0.11", "192.0.2.53"),
        ("one.example", "two.example"),
        2,
    )
    assert found.hosts == (
        ("localhost", "127.0.0.1"),
        ("localhost", "::1"),
        ("db", "10.0.1.9"),
        ("database", "10.0.1.9"),
    )


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("db", ("db.one.example", "db.two.example", "db")),
        ("a.b.c", ("a.b.c", "a.b.c.one.example", "a.b.c.two.example")),
        ("db.", ("db.",)),
    ],
)
def test_the_search_list(name, asked):
    assert asked_names(name, read_resolver(CONF, "")) == asked


def look_up(name, conf, answers, hosts=""):
    """Drive a lookup: `answers` by server and name asked."""
    gather = gather_name(name, pid=7, netns="/run/ns")
    requests = next(gather)
    replies = [Answer(data={"resolv_conf": conf, "hosts": hosts})]
    asked = []
    while True:
        try:
            requests = gather.send(replies)
        except StopIteration as stop:
            return stop.value, asked
        asked += [(request.params["server"], request.params["name"], request.params["type"]) for request in requests]
        assert all(request.params["netns"] == "/run/ns" for request in requests)
        replies = [
            answers.get((request.params["server"], request.params["name"]), SILENT)
            if request.params["type"] == "A"
            else Answer(data={"rcode": 0, "addresses": []})
            if (request.params["server"], request.params["name"]) in answers
            else SILENT
            for request in requests
        ]


def told(*addresses, rcode=0):
    return Answer(data={"rcode": rcode, "addresses": list(addresses)})


def test_the_hosts_file_comes_first():
    found, asked = look_up("db", CONF, {}, hosts="10.0.1.9 db\n")
    assert (found.server, found.addresses, asked) == ("hosts", ("10.0.1.9",), [])


def test_a_name_of_the_search_list():
    answers = {("127.0.0.11", "db.one.example"): told(rcode=3), ("127.0.0.11", "db.two.example"): told("192.0.2.7")}
    found, _ = look_up("db", CONF, answers)
    assert (found.name, found.addresses, found.server) == ("db", ("192.0.2.7",), "127.0.0.11")


def test_the_second_server_is_asked_only_where_the_first_does_not_answer():
    answers = {("192.0.2.53", f"db{end}"): told(rcode=3) for end in (".one.example", ".two.example", "")}
    found, asked = look_up("db", CONF, answers)
    assert (found.server, found.addresses) == ("192.0.2.53", ())
    assert [server for server, _, kind in asked if kind == "A"] == ["127.0.0.11", *["192.0.2.53"] * 3]


def test_nobody_answers_and_nobody_is_named():
    found, _ = look_up("db", "nameserver 192.0.2.53\noptions ndots:0\n", {})
    assert (found.server, found.error, found.rcode) == ("192.0.2.53", "192.0.2.53 does not answer", None)
    found, _ = look_up("db", "", {})
    assert found.error == "its resolv.conf names no server"
