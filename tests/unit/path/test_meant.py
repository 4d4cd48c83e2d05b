"""Whose an address is for a container, and what a name should be for it."""

import msgspec

from netdiag.facts.name_lookup import NameLookup
from netdiag.model.facts import Section
from netdiag.path.meant import addresses_called, attached_at, is_held, why_nameless
from netdiag.path.names import find_container, shares_host
from tests.unit.path.facts_of import container, facts, on, overlay, task

WEB = container("web", on("app", "10.0.1.2"), on("bridge", "172.17.0.2"))
STRAY = container("back", on("bridge", "172.17.0.3"))
BACK = container("back", on("app", "10.0.1.4"), identity="theback")


def test_a_stray_container_of_the_default_network_has_no_name():
    assert addresses_called([facts(WEB, STRAY)], WEB, "back") == ()
    assert addresses_called([facts(WEB, STRAY), facts(BACK)], WEB, "back") == ("10.0.1.4",)
    assert addresses_called([facts(WEB, networks=(overlay(task("", "back", "10.0.1.4")),))], WEB, "back") == (
        "10.0.1.4",
    )


def test_an_address_belongs_to_whom_the_caller_shares_a_network_with():
    apart = container("other", on("elsewhere", "10.0.1.4"))
    assert attached_at(facts(WEB, apart), WEB, "10.0.1.4") is None
    assert attached_at(facts(WEB, apart, BACK), WEB, "10.0.1.4").name == "back"


def test_an_alias_may_be_any_name_but_a_hosts_file_is_no_name_server():
    one = facts(WEB, BACK)
    assert is_held(one, WEB, NameLookup(name="db", server="127.0.0.11", addresses=("10.0.1.4",), rcode=0))
    assert not is_held(one, WEB, NameLookup(name="db", server="hosts", addresses=("10.0.1.4",), rcode=0))
    assert not is_held(one, WEB, NameLookup(name="db", server="127.0.0.11", addresses=("192.0.2.99",), rcode=0))


def test_why_there_is_no_name():
    lone = container("lone", on("bridge", "172.17.0.5"))
    assert "default network" in why_nameless(lone, STRAY)
    assert "in no network of" in why_nameless(container("x", on("app", "10.0.1.9")), STRAY)
    assert why_nameless(WEB, BACK) == ""


def test_a_container_in_another_s_namespace_has_its_networks_and_its_own_name():
    beside = msgspec.structs.replace(container("beside"), network_mode=f"container:{WEB.id}", pid=7)
    found = find_container(facts(WEB, beside), "beside")
    assert (found.name, found.id, found.networks, found.pid) == ("beside", WEB.id, WEB.networks, 7)
    # An engine that does not say so: the process is in that namespace.
    silent = msgspec.structs.replace(beside, network_mode="")
    one = facts(WEB, silent)
    spaces = {
        key: msgspec.structs.replace(space, pids=(7,)) if space.owner_id == WEB.id else space
        for key, space in one.namespaces.value.items()
    }
    one = msgspec.structs.replace(one, namespaces=Section(value=spaces))
    assert find_container(one, "beside").networks == WEB.networks
    assert find_container(facts(silent), "beside").networks == ()


def test_a_container_in_its_host_s_namespace():
    assert shares_host(container("hosty", on("host", "")))
    assert shares_host(msgspec.structs.replace(container("hosty"), network_mode="host"))
    assert not shares_host(WEB)
