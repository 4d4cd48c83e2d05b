import pytest

from netdiag.firewall.belongs import _DESCRIBE
from netdiag.firewall.owner import attribute, owner_of
from netdiag.model.facts import Backend
from netdiag.model.firewall import FirewallRule, Owner


@pytest.mark.parametrize(
    ("chain", "text", "owner"),
    [
        pytest.param("INPUT", "-A INPUT -p udp -j DROP", Owner.OPERATOR, id="by hand"),
        pytest.param("DOCKER-USER", "-A DOCKER-USER -j DROP", Owner.OPERATOR, id="Docker's chain for the operator"),
        pytest.param("FORWARD", "-A FORWARD -j DOCKER-USER", Owner.DOCKER, id="the call of that chain"),
        pytest.param("DOCKER", "-A DOCKER -j RETURN", Owner.DOCKER, id="docker"),
        pytest.param("DOCKER-ISOLATION-STAGE-1", "-A DOCKER-ISOLATION-STAGE-1 -j RETURN", Owner.DOCKER, id="isolation"),
        pytest.param("FORWARD", "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT", Owner.DOCKER, id="docker's bridge"),
        pytest.param("DOCKER-INGRESS", "-A DOCKER-INGRESS -j RETURN", Owner.SWARM, id="routing mesh"),
        pytest.param(
            "INPUT", '-A INPUT -m comment --comment "cali:abc" -j cali-INPUT', Owner.CALICO, id="calico's comment"
        ),
        pytest.param("cali-INPUT", "-A cali-INPUT -j DROP", Owner.CALICO, id="calico's chain"),
        pytest.param("IN_public_deny", "-A IN_public_deny -j DROP", Owner.FIREWALLD, id="zone"),
        pytest.param("INPUT", "-A INPUT -j INPUT_ZONES", Owner.FIREWALLD, id="call of the zones"),
        pytest.param("ufw-user-input", "-A ufw-user-input -j DROP", Owner.UFW, id="ufw"),
        pytest.param("ufw6-user-input", "-A ufw6-user-input -j DROP", Owner.UFW, id="ufw for IPv6"),
        pytest.param("KUBE-FIREWALL", "-A KUBE-FIREWALL -j DROP", Owner.KUBE, id="kube"),
        pytest.param("INPUT", "-A INPUT -j f2b-sshd", Owner.FAIL2BAN, id="call of fail2ban"),
        pytest.param("INVALIDS", "-A INVALIDS -j DROP", Owner.OPERATOR, id="a chain of an operator"),
    ],
)
def test_owner(chain, text, owner):
    assert owner_of(chain, text) is owner


# One rule of each owner, as the owner writes it, and what it serves.
OF_EACH = {
    Owner.OPERATOR: ("filter", "INPUT", "-A INPUT -p tcp --dport 22 -j DROP", ""),
    Owner.DOCKER: (
        "filter",
        "DOCKER",
        "-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT",
        "port 80/tcp of 172.17.0.2",
    ),
    Owner.SWARM: (
        "filter",
        "DOCKER-INGRESS",
        "-A DOCKER-INGRESS -p tcp -m tcp --dport 8080 -j ACCEPT",
        "published port 8080/tcp",
    ),
    Owner.CALICO: ("filter", "cali-tw-cali1234", "-A cali-tw-cali1234 -j DROP", "workload cali1234, to it"),
    Owner.FIREWALLD: ("filter", "IN_public_deny", "-A IN_public_deny -j DROP", "zone public"),
    Owner.UFW: ("filter", "ufw-user-input", "-A ufw-user-input -p tcp --dport 22 -j DROP", "user rule, incoming"),
    Owner.KUBE: (
        "filter",
        "KUBE-SERVICES",
        '-A KUBE-SERVICES -d 10.0.0.1/32 -m comment --comment "default/web:http has no endpoints" -j REJECT',
        "service default/web:http",
    ),
    Owner.FAIL2BAN: ("filter", "f2b-sshd", "-A f2b-sshd -s 192.0.2.7/32 -j REJECT", "jail sshd"),
    Owner.PODMAN: (
        "nat",
        "NETAVARK-HOSTPORT-DNAT",
        '-A NETAVARK-HOSTPORT-DNAT -m comment --comment "dnat name: podman id: 0123456789ab" -j NETAVARK-DN-1',
        "network podman, container 0123456789ab",
    ),
    Owner.LIBVIRT: ("filter", "LIBVIRT_FWI", "-A LIBVIRT_FWI -o virbr0 -j REJECT", "network on bridge virbr0"),
    Owner.NETDIAG: ("netdiag-0badcafe", "end-input", "drop", "a trace"),
}


@pytest.mark.parametrize("owner", Owner)
def test_every_owner_is_told_by_its_rules_and_what_they_serve(owner):
    table, chain, text, belongs = OF_EACH[owner]
    backend = Backend.IPTABLES_NFT if text.startswith("-A") else Backend.NFT_NATIVE
    rule = FirewallRule(backend=backend, family="ip", table=table, chain=chain, number=1, text=text)
    found = attribute(rule)
    assert (found.owner, found.belongs_to) == (owner, belongs)


def test_it_is_said_of_every_owner_what_its_rules_serve():
    assert set(_DESCRIBE) == set(Owner)
